"""Parse `--splits`: the number of splits of all split commands, or of one command.

The number may be `each`: one split per item.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import attrs

from rvrun.errors import RvrunError
from rvrun.inputs import parse_integer
from rvrun.model import EACH, MAX_SPLITS


class BadSplits(RvrunError):
    """An invalid `--splits`; `text` is its value."""

    text: str
    problem: str
    template = "--splits {text}: {problem}"
    fix = "change --splits {text}"


@attrs.frozen
class SplitRequest:
    """`count` splits for `command` of `pipeline`; an empty name stands for all.

    - `count`: EACH for one split per item.
    """

    count: int | Literal["each"]
    command: str = ""
    pipeline: str = ""

    def __str__(self) -> str:
        """As typed after `--splits`."""
        target = f"{self.pipeline}/{self.command}" if self.pipeline else self.command
        return f"{target}={self.count}" if target else str(self.count)

    def matches(self, pipeline: str, command: str) -> bool:
        """Whether the request applies to `command` of `pipeline`."""
        return self.command in ("", command) and self.pipeline in ("", pipeline)


def parse_splits(values: Iterable[str]) -> tuple[SplitRequest, ...]:
    """Parse values of `--splits`: `4`, `predict=16`, `tiny/predict=16` or `chip=each`.

    Raises `BadSplits` for any other value, and for two values that conflict.
    """
    requests = tuple(_parse(value) for value in values)
    first: dict[tuple[str, str], SplitRequest] = {}
    for request in requests:
        other = first.setdefault((request.pipeline, request.command), request)
        if other != request:
            raise BadSplits(str(request), f"conflicts with --splits {other}; keep one")
    return requests


def _parse(value: str) -> SplitRequest:
    target, _, count = value.rpartition("=")
    pipeline, _, command = target.rpartition("/")
    is_number = count.isascii() and count.isdigit()
    if not (is_number or count == EACH) or ("=" in value and not command):
        problem = "must be NUMBER, COMMAND=NUMBER or PIPELINE/COMMAND=NUMBER; NUMBER may be `each`"
        raise BadSplits(value, problem)
    if count == EACH:
        return SplitRequest(count=EACH, command=command, pipeline=pipeline)
    number = parse_integer(count)
    if number is None or not 1 <= number <= MAX_SPLITS:
        raise BadSplits(value, f"the number must be between 1 and {MAX_SPLITS:,}")
    return SplitRequest(count=number, command=command, pipeline=pipeline)


def choose_num_splits(
    requests: Iterable[SplitRequest],
    pipeline: str,
    command: str,
    num_items: int | None = None,
    *,
    default: int | Literal["each"] = 1,
) -> int:
    """Return the number of the most specific request for a command, else `default`.

    - `num_items`: how many items the command's splits share out; None if unknown.

    Raises `BadSplits` if it is one split per item, and their number is unknown.
    """
    matching = [request for request in requests if request.matches(pipeline, command)]
    # An empty name sorts before any other, so the most specific request is the greatest.
    best = max(
        matching,
        key=lambda request: (request.pipeline, request.command),
        default=SplitRequest(default, command, pipeline),
    )
    if best.count != EACH:
        return best.count
    if num_items is None:
        problem = (
            f"the number of items of `{pipeline}/{command}` is unknown; declare them in `items`, "
            f"or give a number: --splits {command}=NUMBER"
        )
        raise BadSplits(str(best), problem)
    # Without items, a split that does nothing stands for all of them.
    return min(max(num_items, 1), MAX_SPLITS)
