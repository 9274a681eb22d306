"""What `--splits` says: a split count for all split commands, a command, or one pipeline's."""

from __future__ import annotations

from collections.abc import Iterable

import attrs

from rvrun.errors import RvrunError

#: More than any machine runs; a mistyped number is refused before it fills the memory.
MAX_SPLITS = 10_000_000


class BadSplits(RvrunError):
    """A `--splits` that cannot be followed."""

    def __init__(self, text: str, problem: str) -> None:
        self.text = text
        self.problem = problem

    def __str__(self) -> str:
        return f"--splits {self.text}: {self.problem}"


@attrs.frozen
class SplitRequest:
    """`count` splits for `command` of `pipeline`; empty names stand for all."""

    count: int
    command: str = ""
    pipeline: str = ""

    def __str__(self) -> str:
        place = f"{self.pipeline}/{self.command}" if self.pipeline else self.command
        return f"{place}={self.count}" if place else str(self.count)

    @property
    def precision(self) -> int:
        return bool(self.command) + bool(self.pipeline)

    def concerns(self, pipeline: str, command: str) -> bool:
        """Whether it speaks of `command` of `pipeline`."""
        return self.command in ("", command) and self.pipeline in ("", pipeline)


def parse_splits(texts: Iterable[str]) -> tuple[SplitRequest, ...]:
    """Read `4`, `predict=16` or `tiny/predict=16`, as typed after `--splits`.

    Raises `BadSplits` for what is none of these, and for two that say different things.
    """
    requests = tuple(_parse(text) for text in texts)
    counts: dict[tuple[str, str], int] = {}
    for request in requests:
        place = (request.pipeline, request.command)
        if counts.setdefault(place, request.count) != request.count:
            other = attrs.evolve(request, count=counts[place])
            raise BadSplits(str(request), f"--splits {other} says otherwise; keep one")
    return requests


def _parse(text: str) -> SplitRequest:
    place, _, count = text.rpartition("=")
    pipeline, _, command = place.rpartition("/")
    if not (count.isascii() and count.isdigit()) or ("=" in text and not command):
        raise BadSplits(text, "write a number, COMMAND=NUMBER or PIPELINE/COMMAND=NUMBER")
    if not 1 <= int(count) <= MAX_SPLITS:
        raise BadSplits(text, f"a command has 1 to {MAX_SPLITS:,} splits")
    return SplitRequest(count=int(count), command=command, pipeline=pipeline)


def num_splits(requests: Iterable[SplitRequest], pipeline: str, command: str) -> int:
    """The count that the most precise of `requests` asks for; 1 where none does."""
    matching = [request for request in requests if request.concerns(pipeline, command)]
    return max(matching, key=lambda request: request.precision).count if matching else 1
