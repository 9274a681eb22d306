"""What can be wrong with a user's input: one class a kind, facts as fields, one sentence of text.

Light on purpose: the worker of every target imports this module.
"""

from __future__ import annotations

DONE = 0
FAILED = 1
INVALID = 2
BUG = 3
INTERRUPTED = 130


class RvrunError(Exception):
    """An error of the user's input; `str(error)` is one sentence naming value, place and mend."""

    exit_code = INVALID


class UserCodeError(RvrunError):
    """The user's own code raised (while a config was loaded or built).

    The user's exception is `__cause__`; its traceback is theirs to see.
    """


class UnknownName(RvrunError):
    """A name that is not one of those known in its place.

    `nearby`: those to list, where all would be too many; the suggestion may be any.
    """

    def __init__(
        self,
        kind: str,
        name: str,
        known: tuple[str, ...],
        place: str = "",
        nearby: tuple[str, ...] = (),
    ) -> None:
        self.kind = kind
        self.name = name
        self.known = known
        self.place = place
        self.nearby = nearby

    def __str__(self) -> str:
        where = f" in {self.place}" if self.place else ""
        known = ", ".join(f"`{name}`" for name in self.nearby or self.known) or "none"
        return f"unknown {self.kind} `{self.name}`{where}{self.suggestion()}; known: {known}"

    def suggestion(self) -> str:
        """`, did you mean …?`, where a known name is near."""
        import difflib

        near = difflib.get_close_matches(self.name, self.known, n=1)
        return f", did you mean `{near[0]}`?" if near else ""


def describe(error: BaseException) -> str:
    """`ValueError: what it says`; of attrs' errors the sentence alone, without the objects."""
    says: object = error
    if any(type(argument).__name__ == "Attribute" for argument in error.args):
        says = error.args[0]
    return f"{type(error).__name__}: {says}"


def check_known(kind: str, name: str, known: tuple[str, ...], place: str = "") -> None:
    """Raise `UnknownName` unless `name` is one of `known`."""
    if name not in known:
        raise UnknownName(kind, name, known, place)
