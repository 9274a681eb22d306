"""The index of a job in its array, as schedulers pass it to the job.

Light on purpose: the worker of a job imports this module.
"""

from __future__ import annotations

from rvrun.errors import RvrunError
from rvrun.inputs import parse_integer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping


class BadIndex(RvrunError):
    """An array index that is not an integer."""

    variable: str
    value: str
    template = "{variable} must be an integer of at least 0, got {value!r}"


def read_index(environ: Mapping[str, str], variable: str) -> int | None:
    """Return the index in a variable; None if it is not set. Raises `BadIndex`."""
    text = environ.get(variable)
    if text is None:
        return None
    if (index := parse_integer(text)) is None:
        raise BadIndex(variable, text)
    return index
