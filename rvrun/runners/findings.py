"""What is wrong with a plan for a runner: all of it, told at once."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from rvrun.errors import RvrunError
from rvrun.text import count

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
        lines = "".join(f"\n  {finding}" for finding in self.findings)
        return f"not fit for {self.runner}, {count(len(self.findings), 'finding')}:{lines}"


def checked(runner: str, findings: Iterable[str]) -> None:
    """Raise `Unfit` where there are `findings`."""
    if found := list(dict.fromkeys(findings)):
        raise Unfit(runner, found)


def is_secret(name: str) -> bool:
    """Whether an environment variable of that name seems to hold a secret."""
    return _SECRET.search(name) is not None
