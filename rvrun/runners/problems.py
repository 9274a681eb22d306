"""What is wrong with a plan for a runner: all of it, told at once."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from rvrun.errors import RvrunError
from rvrun.text import count

#: How many that have the same fault are named.
MOST_NAMED = 8
#: The stage or job at the beginning of a finding: `tiny/chip: no job queue`.
_NAMED = re.compile(r"[\w./-]+(?=: )")
#: A name with one of these words speaks of a secret.
_SECRET = re.compile(
    r"(^|_)(SECRET|SECRETS|PASSWORD|PASSWD|TOKEN|CREDENTIAL|CREDENTIALS|"
    r"API_?KEY|ACCESS_?KEY(_ID)?|PRIVATE_?KEY)($|_)",
    re.IGNORECASE,
)


class Unfit(RvrunError):
    """A plan that cannot be submitted; `findings` say why, a sentence each."""

    def __init__(self, runner: str, findings: Sequence[str]) -> None:
        self.runner = runner
        self.findings = tuple(findings)

    def __str__(self) -> str:
        found = gathered(self.findings)
        lines = "".join(f"\n  {finding}" for finding in found)
        return f"not fit for {self.runner}, {count(len(found), 'finding')}:{lines}"


def checked(runner: str, findings: Iterable[str]) -> None:
    """Raise `Unfit` where there are `findings`, each such as `tiny/chip: no job queue`."""
    if found := list(dict.fromkeys(findings)):
        raise Unfit(runner, found)


def gathered(findings: Iterable[str]) -> list[str]:
    """What is found of several in the same words is said once: `tiny/chip, tiny/sum: …`."""
    subjects: dict[str, list[str]] = {}
    for finding in dict.fromkeys(findings):
        subject = name[0] if (name := _NAMED.match(finding)) else ""
        subjects.setdefault(finding.removeprefix(subject), []).append(subject)
    return [f"{_several(found)}{text}" for text, found in subjects.items()]


def _several(subjects: Sequence[str]) -> str:
    named = ", ".join(subjects[:MOST_NAMED])
    more = len(subjects) - MOST_NAMED
    return f"{named} and {more:,} more" if more > 0 else named


def is_secret(name: str) -> bool:
    """Whether an environment variable of that name seems to hold a secret."""
    return _SECRET.search(name) is not None
