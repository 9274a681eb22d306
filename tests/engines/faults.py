"""Failures between a client and a service, as values that a test's hook returns."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import attrs


def _nothing() -> None:
    pass


@attrs.frozen
class Throttle:
    """The service refuses the call because there are too many; it is not served."""


@attrs.frozen
class DropBefore:
    """The connection breaks before the call is served."""


@attrs.frozen
class DropReplyAfter:
    """The call is served, then `then` is called, and the reply is lost."""

    then: Callable[[], object] = _nothing


@attrs.frozen
class ServerError:
    """The service answers 500; with `after` it has served the call nevertheless."""

    after: bool = False


@attrs.frozen
class Delay:
    """The call is served late."""

    seconds: float


@attrs.frozen
class Refuse:
    """The service refuses the call permanently. Only some engines support it."""

    code: str
    message: str = "no"


Fault = Throttle | DropBefore | DropReplyAfter | ServerError | Delay | Refuse
#: Gets an operation's name, its request, and the number of the call of that operation (from 1).
Hook = Callable[[str, dict[str, Any], int], Fault | None]

ALL: tuple[Fault, ...] = (
    Throttle(),
    DropBefore(),
    DropReplyAfter(),
    ServerError(),
    ServerError(after=True),
)


def seeded(
    seed: int,
    *,
    rate: float = 0.3,
    faults: Sequence[Fault] = ALL,
    operations: Sequence[str] | None = None,
) -> Hook:
    """A hook that lets calls fail with probability `rate`.

    It depends only on seed, operation and number, so that a failing test can be repeated.
    """

    def hook(operation: str, request: dict[str, Any], number: int) -> Fault | None:
        if operations is not None and operation not in operations:
            return None
        dice = random.Random(f"{seed}/{operation}/{number}")
        return dice.choice(faults) if dice.random() < rate else None

    return hook
