"""Whom scaling down removes."""

from hypothesis import given
from hypothesis import strategies as st

from mrq.local.victims import Candidate, choose_victims

candidates = st.lists(
    st.builds(
        Candidate,
        id=st.uuids().map(str),
        created=st.integers(0, 9).map(str),
        running=st.booleans(),
        state=st.sampled_from([None, "idle", "busy", "draining"]),
        jobs=st.integers(0, 3),
    ),
    max_size=8,
)


def test_the_idle_go_before_the_busy() -> None:
    busy = Candidate("a", "1", state="busy", jobs=1)
    idle = Candidate("b", "2", state="idle")
    assert choose_victims([busy, idle], keep=1) == [idle]


def test_who_drains_already_goes_first() -> None:
    idle = Candidate("a", "1", state="idle")
    leaving = Candidate("b", "1", state="draining", jobs=1)
    assert choose_victims([idle, leaving], keep=1) == [leaving]


def test_of_the_idle_the_youngest_goes() -> None:
    old, young = Candidate("a", "1", state="idle"), Candidate("b", "2", state="idle")
    assert choose_victims([old, young], keep=1) == [young]


def test_of_the_busy_those_with_few_jobs_go_first() -> None:
    much, little = Candidate("a", "2", state="busy", jobs=3), Candidate("b", "1", state="busy", jobs=1)
    assert choose_victims([much, little], keep=1) == [little]


def test_what_does_not_run_goes_though_there_are_too_few() -> None:
    dead, alive = Candidate("a", "1", running=False), Candidate("b", "1", state="busy", jobs=1)
    assert choose_victims([dead, alive], keep=4) == [dead]


@given(candidates, st.integers(1, 8))
def test_as_many_remain_as_are_to_be_kept_and_no_idle_one_while_a_busy_one_goes(
    all_of_them: list[Candidate], keep: int
) -> None:
    victims = choose_victims(all_of_them, keep)
    kept = [one for one in all_of_them if one not in victims]
    assert len(kept) == min(keep, sum(one.running for one in all_of_them))
    assert all(one.running for one in kept)
    interrupted = [one for one in victims if not one.idle and one.state != "draining"]
    assert not interrupted or not any(one.idle for one in kept)
