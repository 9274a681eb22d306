"""Print errors to users: their own traceback, one sentence of rvrun's, the exit code of both."""

from __future__ import annotations

import os
import sys

from rvrun.errors import FAILED, RvrunError, UserCodeError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType


def print_error(error: RvrunError) -> None:
    """Print one sentence, after the user's own traceback where their code raised."""
    if isinstance(error, UserCodeError) and error.__cause__ is not None:
        print_traceback(error.__cause__)
    print(f"rvrun: {error}", file=sys.stderr)


def print_traceback(error: BaseException) -> None:
    """Print `error`'s traceback to stderr, without the frames of rvrun that led to it."""
    import traceback

    traceback.print_exception(type(error), error, user_frames(error.__traceback__))


def user_frames(frames: TracebackType | None) -> TracebackType | None:
    """`frames` from the first on that is not rvrun's, nor Python's import of the user's file."""
    own = os.path.dirname(__file__)
    while frames is not None:
        file = frames.tb_frame.f_code.co_filename
        if not file.startswith((own, "<frozen importlib")) and "importlib" not in file:
            return frames
        frames = frames.tb_next
    return None


def exit_code_of(error: SystemExit) -> int:
    """The exit code that Python would end with; print anything that is not a code, as it does."""
    if error.code is None:
        return 0
    if isinstance(error.code, int):
        return error.code
    print(error.code, file=sys.stderr)
    return FAILED
