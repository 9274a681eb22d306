"""What engines of AWS's services share: calls over HTTP, with faults, and threads that run jobs."""

from __future__ import annotations

import abc
import pathlib
import shutil
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, Self

import attrs

from tests.engines import faults
from tests.engines.attempts import Attempt, Execute, Outcome, Stop
from tests.engines.errors import ServiceError
from tests.engines.faults import (
    Delay,
    DropBefore,
    DropReplyAfter,
    Fault,
    Refuse,
    ServerError,
    Throttle,
)
from tests.engines.http import Reply, Request, Server

Json = dict[str, Any]
#: Seconds after which a condition is evaluated again although nothing has changed in the engine.
POLL = 0.05


@attrs.define
class Call:
    """A request. `outcome`: done, refused, or the name of the fault; `at`: monotonic seconds."""

    operation: str
    request: Json
    number: int
    at: float
    outcome: str = ""


def no_fault(operation: str, request: Json, number: int) -> Fault | None:
    return None


class Service(abc.ABC):
    """A service of a region: subclasses know its protocol and its jobs.

    They set their own attributes before they call `__init__`, which starts the threads.

    - `name`: of its folder. `slots`: how many jobs run at once. `execute`: runs an attempt.
    - `fault`: called before each call is served; returns a fault or None.
    """

    def __init__(self, name: str, *, slots: int, execute: Execute, fault: faults.Hook) -> None:
        self.execute = execute
        self.fault = fault
        self.calls: list[Call] = []
        self.errors: list[BaseException] = []  # raised by `execute`, and by the engine itself
        self.changed = threading.Condition(threading.RLock())
        self._numbers: Counter[str] = Counter()
        self._closed = False
        self._root = pathlib.Path(tempfile.mkdtemp(prefix=f"{name}-"))
        self._server = Server(self._respond)
        self._workers = [threading.Thread(target=self._work, daemon=True) for _ in range(slots)]
        for worker in self._workers:
            worker.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop running jobs and the server."""
        with self.changed:
            self._closed = True
            for attempt in self._under_way():
                attempt.stop(Stop.RECLAIMED)
            self.changed.notify_all()
        for worker in self._workers:
            worker.join(timeout=30)
        self._server.close()
        shutil.rmtree(self._root, ignore_errors=True)

    @property
    def url(self) -> str:
        return self._server.url

    def count(self, operation: str) -> int:
        """The number of calls of an operation."""
        with self.changed:
            return self._numbers[operation]

    @abc.abstractmethod
    def statuses(self) -> dict[str, str]:
        """The state of each job, by name."""

    def wait_for(self, condition: Callable[[], bool], timeout: float = 60.0) -> None:
        """Wait until `condition` holds; it may be about what `execute` does, too."""
        deadline = time.monotonic() + timeout
        with self.changed:
            while not self.changed.wait_for(condition, POLL):
                if time.monotonic() > deadline:
                    raise TimeoutError(f"after {timeout} s: {self.statuses()}")

    # Running jobs.

    @abc.abstractmethod
    def _under_way(self) -> Iterable[Attempt]:
        """The attempts that run; called with the lock held."""

    @abc.abstractmethod
    def _begin(self) -> Callable[[], None] | None:
        """Begin a job whose turn it is; return what runs it, or None if there is none.

        Called with the lock held; what it returns is called without it.
        """

    def _work(self) -> None:
        while True:
            with self.changed:
                run = self._begin()
                while run is None and not self._closed:
                    self.changed.wait()
                    run = self._begin()
                if self._closed or run is None:
                    return
                self.changed.notify_all()
            run()

    def _execute(self, attempt: Attempt) -> Outcome:
        """The outcome of an attempt; what `execute` raises is kept for `wait`."""
        try:
            result = self.execute(attempt)
        except BaseException as err:  # noqa: BLE001 - a test's own; `wait` raises it
            self.errors.append(err)
            result = 1
        return result if isinstance(result, Outcome) else Outcome(result)

    # HTTP.

    @abc.abstractmethod
    def _read(self, request: Request) -> tuple[str, Json]:
        """The name of the operation, and its parameters."""

    @abc.abstractmethod
    def _carry_out(self, operation: str, request: Json) -> Reply:
        """Carry out a call, with the lock held. Raises `ServiceError`."""

    @abc.abstractmethod
    def _error_reply(self, operation: str, error: ServiceError) -> Reply: ...

    @abc.abstractmethod
    def _throttled(self, operation: str) -> ServiceError:
        """The error of a call that is refused because there are too many."""

    @abc.abstractmethod
    def _broken(self, text: str = "Internal server error") -> ServiceError:
        """The error of a service that fails."""

    def _respond(self, request: Request) -> Reply | None:
        if self._closed:
            return None
        operation, body = self._read(request)
        with self.changed:
            self._numbers[operation] += 1
            call = Call(operation, body, self._numbers[operation], time.monotonic())
            self.calls.append(call)
        try:
            return self._answer(call)
        except Exception as err:  # noqa: BLE001 - of a hook or the engine; `wait` raises it
            self.errors.append(err)
            return self._error_reply(operation, self._broken(repr(err)))

    def _answer(self, call: Call) -> Reply | None:
        fault = self.fault(call.operation, call.request, call.number)
        call.outcome = type(fault).__name__ if fault else ""
        if isinstance(fault, Delay):
            time.sleep(fault.seconds)
        if isinstance(fault, DropBefore):
            return None
        if (error := self._refusal(fault, call.operation)) is not None:
            return self._error_reply(call.operation, error)
        reply = self._serve(call)
        if isinstance(fault, DropReplyAfter):
            fault.then()
            return None
        if isinstance(fault, ServerError):
            return self._error_reply(call.operation, self._broken())
        return reply

    def _refusal(self, fault: Fault | None, operation: str) -> ServiceError | None:
        """The error of a call that is not served; None if it is."""
        if isinstance(fault, Refuse):
            return ServiceError(fault.code, fault.message)
        if isinstance(fault, Throttle):
            return self._throttled(operation)
        return self._broken() if fault == ServerError() else None

    def _serve(self, call: Call) -> Reply:
        try:
            with self.changed:
                reply = self._carry_out(call.operation, call.request)
                self.changed.notify_all()
        except ServiceError as err:
            call.outcome = call.outcome or "refused"
            return self._error_reply(call.operation, err)
        call.outcome = call.outcome or "done"
        return reply
