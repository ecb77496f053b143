"""What a user's function raised, on its way from the child process to the future."""

from __future__ import annotations

import pickle
import traceback
from pathlib import Path
from types import TracebackType

import cloudpickle

from mrq.blob import Signer
from mrq.code import loads
from mrq.core.model import Phase
from mrq.errors import RemoteError, RemoteTraceback

ERROR_BYTES = 2**20
"""A greater exception, pickled, does not come back as itself."""
TEXT_CHARACTERS = 64 * 1024
"""A longer traceback is cut."""
REPR_CHARACTERS = 2000
"""A longer repr of an exception is cut."""

_OURS = Path(__file__).parent


def dump_error(error: BaseException, signer: Signer, phase: Phase, index: int, attempts: int) -> bytes:
    """Seal a user's exception with its traceback; `load_error` undoes it.

    One that does not pickle, is too big, or comes back as another type, travels as its repr.
    """
    text = _middle_out(
        "".join(traceback.format_exception(type(error), error, _users_part(error.__traceback__)))
    )
    summary = (type(error).__qualname__, _middle_out(_repr(error), REPR_CHARACTERS), text, attempts)
    return signer.seal("error", _place(phase, index), pickle.dumps((summary, _pickled(error))))


def load_error(blob: bytes, signer: Signer, phase: Phase, index: int) -> BaseException:
    """Open what a task raised; ``__cause__`` is its traceback as text.

    Returns:
        the user's exception, or a `RemoteError` in its place when it does not pickle.

    Raises:
        BadSignature: the job's key does not vouch for it.
    """
    (name, representation, text, attempts), pickled = pickle.loads(
        signer.open("error", _place(phase, index), blob)
    )
    error = _unpickled(pickled) if pickled else None
    if error is None:
        task = f"{phase.value} {index}"
        message = (
            f"{signer.job_id}: {task} raised {name}, which can't be pickled or is too big: {representation}"
        )
        error = RemoteError(message, job_id=signer.job_id, task=task, attempts=attempts)
    error.__cause__ = RemoteTraceback(text)
    return error


def _place(phase: Phase, index: int) -> str:
    return f"{phase.value}-{index}"


def _users_part(trace: TracebackType | None) -> TracebackType | None:
    """Skip mrq's own calls, down to the first of somebody else's."""
    part = trace
    while part and Path(part.tb_frame.f_code.co_filename).is_relative_to(_OURS):
        part = part.tb_next
    return part or trace


def _repr(error: BaseException) -> str:
    try:
        return repr(error)
    except BaseException:  # a __repr__ of the user's
        return f"<{type(error).__qualname__}>"


def _middle_out(text: str, most: int = TEXT_CHARACTERS) -> str:
    """Cut the middle of a long text; a traceback's beginning and end say most."""
    if len(text) <= most:
        return text
    half = most // 2
    return f"{text[:half]}\n[{len(text) - 2 * half} characters are left out]\n{text[-half:]}"


def _pickled(error: BaseException) -> bytes | None:
    if not isinstance(error, Exception):  # SystemExit and its like would end the client
        return None
    # Many classes take other arguments than they hand on to Exception, so that pickle can't make them again.
    for value in (error, (type(error), error.args, vars(error))):
        try:
            pickled = bytes(cloudpickle.dumps(value))
        except BaseException:  # a __reduce__ of the user's may raise what it likes, SystemExit too
            continue
        if len(pickled) > ERROR_BYTES:
            return None
        if type(_unpickled(pickled)) is type(error):
            return pickled
    return None


def _unpickled(pickled: bytes) -> BaseException | None:
    try:
        value = loads(pickled)
        if isinstance(value, tuple):
            cls, args, attributes = value
            value = cls.__new__(cls, *args)
            value.args = args
            value.__dict__.update(attributes)
    except BaseException:  # whatever the class's own code raises
        return None
    return value if isinstance(value, BaseException) else None
