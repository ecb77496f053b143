"""Functions and elements on their way between processes: cloudpickle, by value where it must be.

A worker has the standard library and what is installed there, not the modules beside somebody's script.
Functions and classes of such modules go by value: their code travels. Whatever comes in is unpickled after
its signature was checked.
"""

from __future__ import annotations

import inspect
import io
import pickle
import sys
import sysconfig
import threading
from collections import ChainMap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any, ClassVar

import cloudpickle
from cloudpickle import cloudpickle as internals

from mrq.errors import NotShippable

MapFunction = Callable[..., Any]
ReduceFunction = Callable[..., Any]

_OURS = Path(__file__).parent
_SITES = ("site-packages", "dist-packages")


# ---------------------------------------------------------------- out


def pack(map_func: MapFunction, reduce_func: ReduceFunction) -> bytes:
    """Pickle a job's two functions, with all that they refer to and workers don't have.

    Raises:
        NotShippable: one of them can't be pickled; the message names it and what it refers to.
    """
    with by_value():
        try:
            return _dumps((map_func, reduce_func))
        except Exception as error:  # whatever a __reduce__ of the user's raises
            for role, function in (("map_func", map_func), ("reduce_func", reduce_func)):
                if _failure(function) is not None:
                    raise NotShippable(_explain(role, function, error)) from error
            raise NotShippable(f"map_func and reduce_func can't be pickled together: {error}") from error


def _dumps(value: object) -> bytes:
    file = io.BytesIO()
    _Pickler(file).dump(value)
    return file.getvalue()


def _reduce_code(code: CodeType) -> tuple[Any, ...]:
    """Keep the file's name, which cloudpickle leaves out: a traceback is of little use without it."""
    maker, args = internals._code_reduce(code)
    return maker, tuple(code.co_filename if arg == "<dynamic-code>" else arg for arg in args)


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]  # cloudpickle carries no type information
    dispatch_table: ClassVar[Any] = ChainMap({CodeType: _reduce_code}, cloudpickle.Pickler.dispatch_table)


def unpack(payload: bytes) -> tuple[MapFunction, ReduceFunction]:
    """Undo `pack`. Raises whatever an import or a ``__setstate__`` of the user's does."""
    map_func, reduce_func = loads(payload)
    return map_func, reduce_func


_lock = threading.Lock()
_users = 0
_registered: set[str] = set()


@contextmanager
def by_value() -> Iterator[None]:
    """Let cloudpickle pickle what local modules define by value. Thread-safe; may be nested.

    A module is local when its file is neither in the standard library, nor in a ``site-packages`` folder, nor
    mrq's.
    """
    global _users
    with _lock:
        _users += 1
        for module in local_modules():
            # What the user registered himself stays so.
            if module.__name__ not in cloudpickle.list_registry_pickle_by_value():
                cloudpickle.register_pickle_by_value(module)
                _registered.add(module.__name__)
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            if not _users:
                internals._PICKLE_BY_VALUE_MODULES.difference_update(_registered)
                _registered.clear()


def local_modules() -> list[ModuleType]:
    """Return the imported modules that workers can't be expected to have."""
    modules = list(sys.modules.items())  # other threads may be importing
    return [m for name, m in modules if isinstance(m, ModuleType) and m.__name__ == name and _is_local(m)]


def _is_local(module: ModuleType) -> bool:
    if module.__name__ == "__main__":  # cloudpickle pickles it by value anyway
        return False
    file = getattr(module, "__file__", None)
    if file:
        return _is_local_file(file)
    # Without a file: built in, a namespace (its modules are looked at one by one), or made by a program.
    return getattr(module, "__spec__", None) is None and "." not in module.__name__


@cache
def _is_local_file(file: str) -> bool:
    if file.endswith(tuple(EXTENSION_SUFFIXES)):  # has no code that could travel
        return False
    for path in (Path(file).absolute(), Path(file).resolve()):
        if any(part in _SITES for part in path.parts) or any(path.is_relative_to(home) for home in _homes()):
            return False
    return True


@cache
def _homes() -> tuple[Path, ...]:
    names = ("stdlib", "platstdlib", "purelib", "platlib")
    homes = [Path(sysconfig.get_path(name)) for name in names]
    return (_OURS, *homes, *(home.resolve() for home in homes))


def _failure(value: object) -> Exception | None:
    try:
        cloudpickle.dumps(value)
    except Exception as error:  # as in `pack`
        return error
    return None


def _explain(role: str, function: object, error: Exception) -> str:
    name = getattr(function, "__qualname__", None) or repr(function)
    code = getattr(function, "__code__", None)
    place = f" ({code.co_filename}:{code.co_firstlineno})" if code else ""
    culprits = [
        f"{key!r} ({type(value).__name__})"
        for key, value in _referred(function)
        if _failure(value) is not None
    ]
    what = f"; it refers to {', '.join(culprits)}" if culprits else ""
    return f"{role} {name}{place} can't be sent to workers: {error}{what}"


def _referred(function: object) -> list[tuple[str, object]]:
    if not inspect.isfunction(function):
        return list(getattr(function, "__dict__", {}).items())
    names = inspect.getclosurevars(function)
    return [*names.nonlocals.items(), *names.globals.items()]


# ---------------------------------------------------------------- in


def loads(payload: bytes | memoryview) -> Any:
    """Unpickle what cloudpickle made; classes that came by value are the same class each time.

    A class pickled by value that comes (back) to a process that has it already must stay as it is there.
    cloudpickle finds it by its tracking id, but then writes all attributes anew from the pickle, over the
    methods and counters of the living class; so here that is left out.
    """
    return _Unpickler(io.BytesIO(payload)).load()


class _Unpickler(pickle.Unpickler):
    """Leaves classes alone that were there before this pickle."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file)
        self._kept: list[type] = []

    def find_class(self, module: str, name: str) -> Any:
        found = super().find_class(module, name)
        if module == internals.__name__ and found in _MAKERS:
            return partial(self._make, found)
        if found is internals._class_setstate:
            return self._set_state
        return found

    def _make(self, maker: Callable[..., type], *args: Any) -> type:
        tracking_id = args[_MAKERS[maker]]
        known: type | None = internals._DYNAMIC_CLASS_TRACKER_BY_ID.get(tracking_id)
        if known is None:
            return maker(*args)
        self._kept.append(known)
        return known

    def _set_state(self, made: type, state: Any) -> type:
        if any(kept is made for kept in self._kept):
            return made
        internals._class_setstate(made, state)
        return made


_MAKERS: dict[Callable[..., type], int] = {
    internals._make_skeleton_class: 4,
    internals._make_skeleton_enum: 5,
}
"""What makes a class before its attributes are set, and which of the arguments is the tracking id."""
