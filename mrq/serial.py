"""Records to bytes and back: plain pickle where it will do, cloudpickle where a class must travel by value."""

from __future__ import annotations

import pickle
from typing import Any

from mrq.errors import NotShippable

_PROTOCOL = 5
_PLAIN = frozenset({str, bytes, int, float, bool, complex, type(None)})


def dumps(value: Any) -> bytes:
    """Pickle in a worker's child process.

    A class that came by value, of the client's ``__main__`` or of a module beside its script, can't be imported here:
    plain pickle fails on it, and cloudpickle sends it by value once more.

    Raises:
        NotShippable: neither can; the message names the type and says why.
    """
    try:
        return pickle.dumps(value, _PROTOCOL)
    except Exception:  # a reason that cloudpickle may not share, or will tell better
        return _by_value(value)


def dumps_by_value(value: Any) -> bytes:
    """Pickle in the client, where plain pickle would refer to ``__main__``, which is another one in the workers.

    Raises:
        NotShippable: it can't be; the message names the type and says why.
    """
    if isinstance(value, list) and set(map(type, value)) <= _PLAIN:
        return pickle.dumps(value, _PROTOCOL)
    return _by_value(value)


def loads(payload: bytes) -> Any:
    """Unpickle what either made; only for bytes whose signature was checked. Raises whatever a user's class does."""
    if b"cloudpickle" not in payload:
        return pickle.loads(payload)
    from mrq import code  # it imports cloudpickle, which most data never needs

    return code.loads(payload)


def _by_value(value: Any) -> bytes:
    import cloudpickle  # takes longer to import than all of mrq's data plane

    try:
        pickled: bytes = cloudpickle.dumps(value, _PROTOCOL)
    except Exception as error:  # whatever a class's own __reduce__ raises
        raise NotShippable(
            f"a value of type {type(value).__qualname__} can't be pickled: {type(error).__name__}: {error}"
        ) from error
    return pickled
