"""Take secrets out of bug reports, which users send to strangers."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import attrs

from rvrun.secret_marks import may_be_secret
from rvrun.settings.values import HIDDEN

#: Shorter values are common words and numbers, and replacing them would spoil the traceback.
MIN_LENGTH = 4
_ASSIGNMENT = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)=(.*)", re.DOTALL)
_ARG = ("-a", "--arg")


@attrs.frozen
class Redaction:
    """Replaces values, the longest first, so that no part of one remains."""

    values: tuple[str, ...]

    @classmethod
    def of(cls, argv: Sequence[str], environ: Mapping[str, str]) -> Redaction:
        """Return what hides the values of `-a` and of variables that look like secrets."""
        secrets = [value for name, value in environ.items() if may_be_secret(name, value)]
        arguments = [argv[index] for index in _value_indices(argv)]
        assigned = [match[2] for word in argv if (match := _ASSIGNMENT.fullmatch(word))]
        values = {value for value in (*secrets, *arguments, *assigned) if len(value) >= MIN_LENGTH}
        return cls(tuple(sorted(values, key=len, reverse=True)))

    def text(self, text: str) -> str:
        """Return `text` without the values, also as `repr` writes them."""
        for value in self.values:
            for form in (value, repr(value)[1:-1]):
                text = text.replace(form, HIDDEN)
        return text

    def words(self, argv: Sequence[str]) -> list[str]:
        """Return a command line without the values, however short."""
        hidden = set(_value_indices(argv))
        return [HIDDEN if index in hidden else self._word(word) for index, word in enumerate(argv)]

    def _word(self, word: str) -> str:
        match = _ASSIGNMENT.fullmatch(word)
        return f"{match[1]}={HIDDEN}" if match else self.text(word)


def _value_indices(argv: Sequence[str]) -> list[int]:
    """The indices of the values of `-a KEY VALUE`, `--arg KEY VALUE`, `-aKEY VALUE`."""
    indices = []
    for index, word in enumerate(argv):
        if word in _ARG:
            indices.append(index + 2)
        elif word.startswith(("-a", "--arg=")):
            indices.append(index + 1)
    return [index for index in indices if index < len(argv)]
