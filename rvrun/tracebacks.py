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
    """Print `error`'s traceback to stderr, without the frames of rvrun."""
    sys.stderr.write(format_traceback(error))


def format_traceback(error: BaseException) -> str:
    """Format `error`'s traceback without the frames of rvrun, nor of what creates configs."""
    import traceback

    shown = traceback.TracebackException(type(error), error, user_frames(error.__traceback__))
    frames = [frame for frame in shown.stack if not _is_own(frame.filename)]
    shown.stack = traceback.StackSummary.from_list(frames)
    return "".join(shown.format())


def _is_own(file: str) -> bool:
    """Whether a frame's file is rvrun's, or code that attrs generated for a config class."""
    own = os.path.dirname(__file__) + os.sep
    return file.startswith((own, "<frozen importlib", "<attrs generated"))


def innermost_place(error: BaseException) -> str:
    """Return `file:line` of the user's innermost frame, the file without its folder; or empty."""
    import traceback

    places = [
        f"{os.path.basename(frame.f_code.co_filename)}:{line}"
        for frame, line in traceback.walk_tb(user_frames(error.__traceback__))
        if not _is_own(frame.f_code.co_filename) and not _is_attrs(frame.f_code.co_filename)
    ]
    return places[-1] if places else ""


def _is_attrs(file: str) -> bool:
    return os.path.basename(os.path.dirname(file)) == "attr"


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
    """The exit code that Python would end with; print anything that is not a code, as it does.

    The kernel keeps 8 bits of a code (_exit(2)). One that would become 0 counts as a failure.
    """
    if error.code is None:
        return 0
    if isinstance(error.code, int):
        return error.code & 0xFF or (FAILED if error.code else 0)
    print(error.code, file=sys.stderr)
    return FAILED
