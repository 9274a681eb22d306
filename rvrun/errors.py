"""Errors in the user's input: facts as fields, a message made of them, and how to fix it.

Light on purpose: the worker of every target imports this module.
"""

from __future__ import annotations

from rvrun.text import quoted, shorten

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, ClassVar, dataclass_transform
else:

    def dataclass_transform():  # noqa: ANN201 - typing costs milliseconds, and only mypy reads it
        return lambda cls: cls


#: Exit codes: success; a target failed, or plans differ; invalid input; a bug; interrupted; nobody
#: reads the output any more. The last two are 128 + SIGINT and 128 + SIGPIPE, as shells have them.
DONE = 0
FAILED = 1
INVALID = 2
BUG = 3
INTERRUPTED = 130
CLOSED_PIPE = 141
#: Longer names are not compared with known ones, which takes time quadratic in their length.
MAX_COMPARED = 200
#: The most known names that a message lists; of more it lists half as many.
MAX_LISTED = 24


@dataclass_transform()
class RvrunError(Exception):
    """An error in the user's input; `str(error)` is a short message that names value and place.

    Subclasses declare their facts as annotations, with or without a default; the constructor takes
    them in that order or by name. `template` and `fix` are templates in which `{name}` stands for
    a fact; a message with alternatives overrides `__str__`. Long facts are shortened in messages,
    except for those in `sentences`, which quote values themselves (`text.quoted`).

        class TooMany(RvrunError):
            count: int
            limit: int
            template = "{count} jobs exceed the limit of {limit}"
            fix = "use at most {limit} splits"
    """

    template: ClassVar[str] = ""
    #: What to type or change, as an imperative; empty where only the caller can tell.
    fix: ClassVar[str] = ""
    exit_code: ClassVar[int] = INVALID
    #: The facts that are sentences or parts of one, whose end may be the fix.
    sentences: ClassVar[tuple[str, ...]] = ("problem", "hint", "remedy", "rule", "signature")

    def __init__(self, *values: Any, **named: Any) -> None:
        names = self._names()
        if len(values) > len(names):
            raise TypeError(f"{type(self).__name__} takes {len(names)} facts, got {len(values)}")
        facts = dict(zip(names, values, strict=False)) | named
        missing = [name for name in names if name not in facts and not hasattr(type(self), name)]
        if missing or facts.keys() - names:
            raise TypeError(f"{type(self).__name__}: facts are {', '.join(names)}, got {facts}")
        super().__init__(*facts.values())
        vars(self).update(facts)

    @classmethod
    def _names(cls) -> dict[str, None]:
        """The facts of the class and its bases, in the order of their declaration."""
        classes = [base for base in reversed(cls.__mro__) if issubclass(base, RvrunError)]
        names = (name for base in classes[1:] for name in base.__annotations__)
        return dict.fromkeys(name for name in names if not name.startswith("_"))

    def _facts(self) -> dict[str, Any]:
        facts = {name: getattr(self, name) for name in self._names()}
        return {
            name: value if name in self.sentences else _Shown(value)
            for name, value in facts.items()
        }

    def __str__(self) -> str:
        return self.template.format_map(self._facts())

    def how_to_fix(self) -> str:
        """Return what to type or change, as an imperative; empty if the error does not know."""
        return self.fix.format_map(self._facts())


class _Shown:
    """A fact as a template shows it: `{name}` and `{name!r}` are shortened."""

    def __init__(self, value: object) -> None:
        self.value = value

    def __format__(self, spec: str) -> str:
        return format(self.value, spec) if spec else shorten(str(self.value))

    def __repr__(self) -> str:
        return quoted(self.value)


class Problem(RvrunError):
    """An error whose only fact is its message."""

    problem: str
    template = "{problem}"


class Transient(RvrunError):
    """An error of a service or of the network, after which a retry may succeed."""


class UserCodeError(Problem):
    """The user's own code raised, while a config was loaded or built.

    The user's exception is `__cause__`; its traceback is theirs to see.
    """

    fix = "change your code where its traceback points"


class UnknownName(RvrunError):
    """A name that does not exist where it is used.

    - `nearby`: the names to list where listing all would be too many; a suggestion may be any.
    """

    kind: str
    name: str
    names: tuple[str, ...]
    place: str = ""
    nearby: tuple[str, ...] = ()

    def __str__(self) -> str:
        place = f" in {self.place}" if self.place else ""
        problem = f"unknown {self.kind} `{shorten(self.name)}`{place}"
        return f"{problem}{self.suggestion(f'known {self.kind}s')}"

    def how_to_fix(self) -> str:
        if self.kind == "environment variable":
            return f"unset {shorten(self.name)}, or give it a known name"
        place = f" from {self.place}" if self.place else ""
        return f"remove `{shorten(self.name)}`{place}, or give it a known name"

    def suggestion(self, label: str) -> str:
        """Return the end of a message: a known name that is close, if any, and the known names.

        - `label`: what to call the known names, such as `known commands`.
        """
        choices = self.nearby or self.names
        listed = choices if len(choices) <= MAX_LISTED else choices[: MAX_LISTED // 2]
        names = ", ".join(f"`{name}`" for name in listed) or "none"
        if len(listed) < len(choices):
            names += f" and {len(choices) - len(listed):,} more"
        if near := closest(self.name, self.names):
            return f"; did you mean `{near}`? {label[:1].upper()}{label[1:]}: {names}"
        return f"; {label}: {names}"


def closest(name: str, names: Sequence[str]) -> str | None:
    """Return the one of `names` that `name` is probably a misspelling of; None if none is close."""
    import difflib

    near = difflib.get_close_matches(name, names, n=1) if len(name) <= MAX_COMPARED else []
    return near[0] if near else None


def describe(error: BaseException) -> str:
    """Return `ValueError: message`; for errors of attrs only the sentence, without its objects."""
    message: object = error
    if any(type(argument).__name__ == "Attribute" for argument in error.args):
        message = error.args[0]
    return f"{type(error).__name__}: {shorten(str(message))}"


def check_known(kind: str, name: str, names: tuple[str, ...], place: str = "") -> None:
    """Raise `UnknownName` unless `name` is one of `names`."""
    if name not in names:
        raise UnknownName(kind, name, names, place)
