"""Laws of keys: equal keys are one key, in every process, and all keys have one order."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections import Counter, OrderedDict, defaultdict, namedtuple
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, Flag, IntEnum
from fractions import Fraction
from itertools import groupby
from numbers import Integral
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mrq.core import grouping
from mrq.core.grouping import PIECE, cut, group, in_order, merge
from mrq.core.keys import order_key, partition_of, sorted_by_key
from mrq.core.kinds import OPAQUE


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Word(str, Enum):  # noqa: UP042  # a StrEnum is another kind; this one is what people write
    A = "a"
    EMPTY = ""


class Level(IntEnum):
    LOW = 1
    HIGH = 2


class Access(Flag):
    READ = 1
    WRITE = 2


@dataclass(frozen=True)
class Place:
    name: Any
    x: Any
    note: Any = field(default=None, compare=False)


@dataclass(eq=False)
class Caseless:
    """Opaque: it has an ``__eq__`` of its own, and no hash."""

    text: str

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Caseless) and self.text.lower() == other.text.lower()

    __hash__ = None


class Version:
    """Opaque, with an order of its own, and no hash."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Version) and self.number == other.number

    def __lt__(self, other: Version) -> bool:
        return self.number < other.number

    __hash__ = None


Point = namedtuple("Point", ["x", "y"])

zones = st.integers(-14 * 4, 14 * 4).map(lambda quarter: timezone(timedelta(minutes=15 * quarter)))
small = st.integers(-3, 3)
numbers = st.one_of(
    small,
    st.integers(),
    st.booleans(),
    small.map(float),
    st.floats(allow_nan=False),
    small.map(Decimal),
    st.decimals(allow_nan=False),
    small.map(Fraction),
    st.fractions(),
    small.map(complex),
    st.complex_numbers(allow_nan=False),
    st.sampled_from(Level),
)
texts = st.one_of(
    st.text(max_size=3),
    st.text(st.characters(categories=["Cs", "Lu"]), max_size=2),
    st.sampled_from(Word),
)
atoms = st.one_of(
    st.none(),
    numbers,
    texts,
    st.binary(max_size=3),
    st.binary(max_size=3).map(bytearray),
    st.dates(),
    st.datetimes(),
    st.datetimes(timezones=zones),
    st.datetimes(datetime(2000, 1, 1), datetime(2000, 1, 2), timezones=zones),
    st.times(),
    st.times(timezones=zones),
    st.timedeltas(),
    st.uuids(),
    st.text("aB/.", max_size=4).map(PurePosixPath),
    st.text("aB/.", max_size=4).map(PureWindowsPath),
    st.sampled_from(Colour),
    st.sampled_from([Access.READ, Access.WRITE, Access.READ | Access.WRITE]),
)
hashable = st.recursive(
    atoms.filter(lambda key: not isinstance(key, bytearray)),
    lambda keys: st.one_of(
        st.lists(keys, max_size=3).map(tuple),
        st.frozensets(keys, max_size=3),
        st.builds(Point, keys, keys),
        st.builds(Place, keys, small, st.integers()),
    ),
    max_leaves=4,
)
plain = st.recursive(
    st.one_of(atoms, hashable),
    lambda keys: st.one_of(
        st.lists(keys, max_size=3),
        st.lists(keys, max_size=3).map(tuple),
        st.sets(hashable, max_size=3),
        st.dictionaries(hashable, keys, max_size=3),
        st.builds(Place, keys, keys, st.integers()),
    ),
    max_leaves=5,
)
"""Keys of all kinds but opaque ones, nested."""
opaque = st.one_of(
    st.text("aAbB", max_size=2).map(Caseless),
    small.map(Version),
    st.text("aAbB", max_size=1).map(lambda text: (1, Caseless(text))),
    st.sampled_from([int, str, Ellipsis, range(3), range(0)]),
)
keys = st.one_of(plain, plain, opaque)
NAN = float("nan")


def twin(key: Any) -> Any:
    """Return an equal key of another make."""
    match key:
        case Enum() | Point() | Place():
            return key
        case bool() | int():
            return Fraction(key)
        case float() if key.is_integer():
            return Decimal(int(key))
        case bytes():
            return bytearray(key)
        case datetime(tzinfo=zone) if zone and date(1, 1, 3) < key.date() < date(9999, 12, 28):
            return key.astimezone(timezone(timedelta(hours=-7)))
        case tuple():
            return tuple(map(twin, key))
        case list():
            return list(map(twin, key))
        case frozenset():
            return set(key)
        case dict():
            return OrderedDict((k, twin(v)) for k, v in reversed(key.items()))
    return pickle.loads(pickle.dumps(key)) if not isinstance(key, str | Enum) else key


# ---------------------------------------------------------------- equality


@given(plain, plain)
def test_order_keys_are_equal_exactly_when_the_keys_are(a: Any, b: Any) -> None:
    """For all kinds but opaque ones, ``==`` of order keys is ``==`` of keys."""
    assert (order_key(a) == order_key(b)) == (a == b)


@given(plain, st.integers(1, 50))
def test_equal_keys_share_partition_and_order_key_whatever_their_types(key: Any, n: int) -> None:
    """1, 1.0 and Fraction(1), a set and a frozenset, one moment in two zones: all one key."""
    other = twin(key)
    assert key == other
    assert order_key(key) == order_key(other)
    assert hash(order_key(key)) == hash(order_key(other))
    assert partition_of(key, n) == partition_of(other, n) < n


@given(keys, st.integers(1, 50))
def test_a_pickled_key_stays_in_its_partition(key: Any, n: int) -> None:
    """What comes back from the store lands where it came from."""
    assert partition_of(pickle.loads(pickle.dumps(key)), n) == partition_of(key, n)


@pytest.mark.parametrize(
    "same",
    [
        [1, 1.0, True, Decimal(1), Decimal("1.00"), Fraction(1), complex(1, 0), Level.LOW],
        [0, 0.0, -0.0, False, Decimal("-0")],
        [float("inf"), Decimal("Infinity"), complex(float("inf"), 0)],
        [0.5, Fraction(1, 2), Decimal("0.5")],
        [NAN, -NAN, Decimal("nan"), Decimal("snan"), complex(0, NAN)],
        ["a", Word.A],
        [(1, 2), Point(1, 2), (True, 2.0)],
        [{1, 2}, frozenset({2.0, 1})],
        [{"a": 1, "b": 2}, OrderedDict(b=2, a=1), Counter(a=1, b=2), defaultdict(int, b=2, a=1)],
        [datetime(2024, 1, 1, 12, tzinfo=UTC), datetime(2024, 1, 1, 14, tzinfo=timezone(timedelta(hours=2)))],
        [Place("a", 1, "one"), Place("a", 1.0, "another")],
        [PureWindowsPath("A/b"), PureWindowsPath("a\\B")],
        [(NAN, [NAN]), (float("nan"), [Decimal("nan")])],
    ],
)
def test_one_key_in_many_makes(same: list[Any]) -> None:
    """All these are one key: one group, one partition."""
    [(first, values)] = group((key, number) for number, key in enumerate(same))
    assert first is same[0]
    assert values == list(range(len(same)))
    assert len({partition_of(key, 1009) for key in same}) == 1


@pytest.mark.parametrize(
    "different",
    [
        [None, 0, "", b"", (), [], set(), {}, "None"],
        [1, "1", b"1", [1], (1,), {1}, {1: 1}],
        [date(2024, 1, 1), datetime(2024, 1, 1), datetime(2024, 1, 1, tzinfo=UTC), time(0), timedelta(0)],
        [Colour.RED, "red", Colour.BLUE, Access.READ, 1],
        [2**53, float(2**53) + 2, Decimal(2**53 + 1), 2**53 - 1],
        [Place("a", 1), ("a", 1), Place("a", 2)],
        [PurePosixPath("a"), PureWindowsPath("a"), "a", PurePosixPath("A")],
        [UUID(int=1), 1],
        [complex(1, 1), complex(1, -1), 1],
    ],
)
def test_keys_that_look_alike_stay_apart(different: list[Any]) -> None:
    """What ``==`` tells apart has groups of its own."""
    assert len(group((key, None) for key in different)) == len(different)


class Int64:
    """Stands for numpy's scalars: no int, but registered as a number."""

    def __init__(self, value: int) -> None:
        self.value = value

    def __int__(self) -> int:
        return self.value

    def __eq__(self, other: object) -> bool:
        return self.value == (other.value if isinstance(other, Int64) else other)

    def __hash__(self) -> int:
        return hash(self.value)


Integral.register(Int64)


def test_other_numbers_are_numbers() -> None:
    """What says that it is a number, as numpy's scalars do, is the same key as an int."""
    assert partition_of(Int64(5), 1009) == partition_of(5, 1009)
    assert order_key(Int64(5)) == order_key(5.0)
    assert group([(Int64(2), "a"), (10, "b"), (2, "c")]) == [(2, ["a", "c"]), (10, ["b"])]


# ---------------------------------------------------------------- order


@given(plain, plain, plain)
def test_the_order_is_total_antisymmetric_and_transitive(a: Any, b: Any, c: Any) -> None:
    """Any two keys compare, one way only, and in a chain."""
    x, y, z = sorted(map(order_key, (a, b, c)))
    assert not y < x
    assert not z < y
    assert not z < x
    assert (x < y) + (y < x) + (x == y) == 1


@given(st.lists(st.one_of(numbers.filter(lambda x: not isinstance(x, complex)))))
def test_numbers_sort_by_size_across_their_types(values: list[Any]) -> None:
    """int, float, Decimal, Fraction and bool compare as Python compares them."""
    assert [key for key, _ in sorted_by_key((v, None) for v in values)] == sorted(values)


@pytest.mark.parametrize(
    "kind", [st.text(), st.binary(), st.integers(), st.floats(allow_nan=False), st.dates()]
)
def test_one_type_sorts_as_python_sorts_it(kind: st.SearchStrategy[Any]) -> None:
    """The short cut for keys of one type gives the same order as order keys do."""

    @given(st.lists(kind))
    @settings(max_examples=30)
    def law(values: list[Any]) -> None:
        rows = sorted_by_key((v, None) for v in values)
        assert [key for key, _ in rows] == sorted(values) == sorted(values, key=order_key)

    law()


def test_opaque_keys_come_last_in_the_order_of_their_class() -> None:
    """By class name, then by ``__lt__`` where there is one."""
    mixed = [Version(2), Caseless("b"), "z", Version(1), (1, Version(0)), 5]
    ordered = [key for key, _ in sorted_by_key((key, None) for key in mixed)]
    assert ordered[:2] == [5, "z"]
    assert ordered[2] == (1, Version(0))
    assert ordered[-2:] == [Version(1), Version(2)]


def test_a_handwritten_eq_makes_a_dataclass_opaque() -> None:
    """Only the generated ``__eq__`` is known to compare the fields."""

    @dataclass
    class Odd:
        x: int

        def __eq__(self, other: object) -> bool:
            return isinstance(other, Odd) and self.x % 2 == other.x % 2

        __hash__ = None

    assert order_key(Odd(1))[0] == OPAQUE
    assert len(group((Odd(n), n) for n in range(10))) == 2


# ---------------------------------------------------------------- groups


pairs = st.lists(st.tuples(keys, st.integers()), max_size=12)


def by_equality(rows: list[tuple[Any, Any]]) -> list[tuple[Any, list[Any]]]:
    """Group by comparing each with each."""
    groups: list[tuple[Any, list[Any]]] = []
    for key, value in rows:
        for known, values in groups:
            if known == key:
                values.append(value)
                break
        else:
            groups.append((key, [value]))
    return groups


@given(pairs)
def test_groups_are_what_comparing_each_with_each_gives(rows: list[tuple[Any, int]]) -> None:
    """First key seen, values in the order of the input; opaque and unhashable keys too."""
    found = group(rows)
    expected = sorted_by_key(by_equality(rows))
    assert [values for _, values in found] == [values for _, values in expected]
    assert all(a is b for (a, _), (b, _) in zip(found, expected, strict=True))


def whole(rows: Iterable[Any]) -> list[tuple[Any, list[Any]]]:
    """Put groups together again that came as several rows."""
    groups: list[tuple[Any, list[Any]]] = []
    for row in rows:
        if isinstance(row, tuple):
            groups.append((row[0], list(row[1])))
        else:
            groups[-1][1].extend(row)
    return groups


@given(st.lists(pairs, max_size=4), st.integers(1, 3), st.integers(1, 3))
def test_merging_groups_is_grouping_all(inputs: list[list[tuple[Any, int]]], size: int, most: int) -> None:
    """group(a + b) == merge(group(a), group(b)), however groups are cut into rows and rows into blocks."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(grouping, "PIECE", most)
        patch.setattr(grouping, "FEW", 1)
        streams = []
        for pairs in inputs:
            rows = list(cut(group(pairs)))
            streams.append([rows[i : i + size] for i in range(0, len(rows), size)])
        merged = list(merge(streams))
    expected = group(pair for pairs in inputs for pair in pairs)
    assert [values for _, values in whole(merged)] == [values for _, values in expected]
    assert all(a == b for (a, _), (b, _) in zip(whole(merged), expected, strict=True))
    assert max((len(row if isinstance(row, list) else row[1]) for row in merged), default=0) <= most


@given(pairs, st.integers(1, 4), st.integers(1, 3))
def test_partitions_merge_into_the_order_of_all(pairs: list[tuple[Any, int]], n: int, size: int) -> None:
    """in_order(partitions) is the whole, sorted, however blocks are cut."""
    groups = group(pairs)
    parts = [[row for row in groups if partition_of(row[0], n) == index] for index in range(n)]
    streams = [[part[i : i + size] for i in range(0, len(part), size)] for part in parts]
    assert list(in_order(streams)) == groups


def test_a_frequent_key_is_merged_piece_by_piece() -> None:
    """Of a key that fills block after block, the merge has read little more than it has handed on."""
    n_blocks, read = 50, 0

    def stream(value: int) -> Iterator[list[Any]]:
        nonlocal read
        for number in range(n_blocks):
            read += PIECE
            yield [("a", [value] * PIECE) if number == 0 else [value] * PIECE]

    handed = []
    for row in merge([stream(0), stream(1)]):
        handed += row if isinstance(row, list) else row[1]
        assert read - len(handed) <= 3 * PIECE
    assert handed == [0] * n_blocks * PIECE + [1] * n_blocks * PIECE


def test_a_merge_leaves_what_it_was_given_as_it_was() -> None:
    """Streams may be read again."""
    left, right = [("a", [1])], [("a", [2])]
    assert list(merge([[left], [right]])) == [("a", [1, 2])]
    assert (left, right) == ([("a", [1])], [("a", [2])])


# ---------------------------------------------------------------- partitions

_CHILD = """
import pickle, sys
from mrq.core.keys import partition_of
print([partition_of(key, 1009) for key in pickle.load(sys.stdin.buffer)])
"""


def test_partitions_are_the_same_in_every_process() -> None:
    """PYTHONHASHSEED and what ran before change nothing."""
    sample = [
        "a",
        "\ud800",
        b"a",
        1,
        -1,
        2**70,
        0.5,
        NAN,
        None,
        ("a", 1),
        frozenset("abc"),
        {"x": {"y", "z"}},
    ]
    sample += [
        Decimal("1.5"),
        Fraction(1, 3),
        datetime(2024, 1, 1, tzinfo=UTC),
        date(2024, 1, 1),
        UUID(int=7),
    ]
    sample += [PurePosixPath("a/b"), complex(1, 2), timedelta(1), range(3), [1, [2]]]
    answers = {
        subprocess.run(
            [sys.executable, "-c", _CHILD],
            input=pickle.dumps(sample),
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("0", "1", "random")
    }
    assert answers == {f"{[partition_of(key, 1009) for key in sample]}\n".encode()}


@pytest.mark.parametrize(
    "many",
    [
        [f"word{i}" for i in range(8000)],
        list(range(8000)),
        [i * 8 for i in range(8000)],
        [i / 8 for i in range(8000)],
        [2.0**-i for i in range(1000)],
        [(f"a{i % 89}", i) for i in range(8000)],
    ],
    ids=["words", "integers", "multiples", "fractions", "powers", "tuples"],
)
def test_keys_spread_evenly(many: list[Any]) -> None:
    """No partition has more than half again its share, also for keys in regular steps."""
    shares = [len(list(same)) for _, same in groupby(sorted(partition_of(key, 8) for key in many))]
    assert len(shares) == 8
    assert max(shares) < 1.5 * len(many) / 8
