"""Everything that prevents a runner from accepting a plan, reported in one error."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from rvrun.errors import RvrunError
from rvrun.text import count

#: How many subjects of the same problem are named.
MAX_SUBJECTS = 8
#: The stage or job at the beginning of a problem: `tiny/chip: no job queue`.
_SUBJECT = re.compile(r"[\w./-]+(?=: )")


class Unfit(RvrunError):
    """A plan that `runner` would not accept; `problems` say why, a sentence each."""

    runner: str
    problems: tuple[str, ...]

    def __str__(self) -> str:
        lines = grouped(self.problems)
        listed = "".join(f"\n  {line}" for line in lines)
        return f"{self.runner} would not accept this plan, {count(len(lines), 'problem')}:{listed}"


def check_fit(runner: str, problems: Iterable[str]) -> None:
    """Raise `Unfit` if there are `problems`, each such as `tiny/chip: no job queue`."""
    if unique := tuple(dict.fromkeys(problems)):
        raise Unfit(runner, unique)


def grouped(problems: Iterable[str]) -> list[str]:
    """Join problems that differ only in their subject: `tiny/chip, tiny/sum: no job queue`."""
    subjects: dict[str, list[str]] = {}
    for problem in dict.fromkeys(problems):
        subject = match[0] if (match := _SUBJECT.match(problem)) else ""
        subjects.setdefault(problem.removeprefix(subject), []).append(subject)
    return [f"{_listed(names)}{text}" for text, names in subjects.items()]


def _listed(subjects: Sequence[str]) -> str:
    names = ", ".join(subjects[:MAX_SUBJECTS])
    more = len(subjects) - MAX_SUBJECTS
    return f"{names} and {more:,} more" if more > 0 else names
