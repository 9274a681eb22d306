"""The only door to boto3: clients, what AWS answers as errors of ours, and how fast it is asked.

Two kinds of clients. Those that only read let botocore try again by itself. Those that make
something try nothing again: whoever calls must know whether what went unanswered was carried out.
"""

from __future__ import annotations

import contextlib
import functools
import random
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import attrs

from rvrun.errors import RvrunError, Transient

T = TypeVar("T")

#: Error codes by which AWS says "not now": it did not carry out the call.
THROTTLING = (
    "TooManyRequestsException",
    "ThrottlingException",
    "Throttling",
    "ThrottledException",
    "RequestLimitExceeded",
    "RequestThrottled",
    "SlowDown",
    "LimitExceededException",
)
#: How botocore tries calls again that only read.
READ_ATTEMPTS = 8


class AwsError(RvrunError):
    """What AWS, or the way to it, answered to a call instead of doing it.

    - `service`, `operation`: what was asked. `code`: AWS's own, or the name of botocore's error.
    """

    def __init__(self, service: str, operation: str, code: str, message: str) -> None:
        self.service = service
        self.operation = operation
        self.code = code
        self.message = message

    def __str__(self) -> str:
        mend = _MENDS.get(self.code, "")
        return f"AWS {self.service} {self.operation}: {self.message} ({self.code}){mend}"


class Throttled(AwsError, Transient):
    """Not carried out: too many calls at once, or no connection came about."""


class Unanswered(AwsError, Transient):
    """Carried out or not: the connection broke, or the service failed, before it answered."""


class Refused(AwsError):
    """Not carried out, and it will not be if asked again."""


_MENDS = {
    "NoCredentialsError": "; log in (`aws configure`, `aws sso login`), or set AWS_PROFILE or the "
    "setting `aws.profile`",
    "NoRegionError": "; set AWS_REGION, or the setting `aws.region`",
    "ProfileNotFound": "; change AWS_PROFILE or the setting `aws.profile`",
    "ExpiredToken": "; log in again",
    "ExpiredTokenException": "; log in again",
    "AccessDenied": "; your AWS user needs a policy that allows it",
    "AccessDeniedException": "; your AWS user needs a policy that allows it",
}


@attrs.frozen(kw_only=True)
class Account:
    """Whose AWS account, and where; None leaves it to AWS's own configuration."""

    profile: str | None = None
    region: str | None = None

    def reader(self, service: str) -> Client:
        """A client for calls that only read, or that may be repeated without harm."""
        return Client(service, _client(self.profile, self.region, service, READ_ATTEMPTS))

    def maker(self, service: str) -> Client:
        """A client that asks once."""
        return Client(service, _client(self.profile, self.region, service, 1))

    @property
    def region_in_force(self) -> str | None:
        """The region that clients use."""
        return self.region or _session(self.profile).region_name


_making = threading.Lock()


@functools.cache
def _session(profile: str | None) -> Any:
    import boto3
    import botocore.exceptions

    try:
        return boto3.Session(profile_name=profile)
    except botocore.exceptions.BotoCoreError as error:
        raise Refused("configuration", "profile", type(error).__name__, str(error)) from None


@functools.cache
def _client(profile: str | None, region: str | None, service: str, attempts: int) -> Any:
    import botocore.exceptions
    from botocore.config import Config

    config = Config(
        retries={"mode": "standard", "total_max_attempts": attempts},
        connect_timeout=10,
        read_timeout=60,
        max_pool_connections=50,
        user_agent_extra="rvrun",
    )
    # Sessions are not for several threads at once; clients are.
    with _making:
        try:
            return _session(profile).client(service, region_name=region, config=config)
        except botocore.exceptions.BotoCoreError as error:
            raise Refused(service, "client", type(error).__name__, str(error)) from None


@attrs.frozen
class Client:
    """A service of AWS; a call that fails raises an `AwsError`."""

    service: str
    boto: Any

    def call(self, operation: str, **params: Any) -> dict[str, Any]:
        """What `operation` (as AWS writes it, `SubmitJob`) answers to `params`."""
        from botocore import xform_name

        with self._translated(operation):
            answer: dict[str, Any] = getattr(self.boto, xform_name(operation))(**params)
        # botocore takes a reply that was cut off, or is not AWS's, for one that says nothing.
        shape = self.boto.meta.service_model.operation_model(operation).output_shape
        for name in shape.required_members if shape else ():
            if name not in answer:
                problem = f"the reply lacks `{name}`"
                raise Unanswered(self.service, operation, "NoAnswer", problem)
        return answer

    def content(self, operation: str, **params: Any) -> bytes:
        """The body of what `operation` answers, all of it."""
        answer = self.call(operation, **params)
        with self._translated(operation):
            content: bytes = answer["Body"].read()
        return content

    @contextlib.contextmanager
    def _translated(self, operation: str) -> Iterator[None]:
        import botocore.exceptions as botocore

        try:
            yield
        except botocore.ClientError as error:
            raise self._answered(operation, error.response) from None
        except (botocore.EndpointConnectionError, botocore.ConnectTimeoutError) as error:
            raise self._error(Throttled, operation, error) from None
        except (
            botocore.HTTPClientError,
            botocore.ConnectionError,
            botocore.IncompleteReadError,
        ) as error:
            raise self._error(Unanswered, operation, error) from None
        except botocore.BotoCoreError as error:
            raise self._error(Refused, operation, error) from None

    def pages(self, operation: str, next_key: str, **params: Any) -> Iterator[dict[str, Any]]:
        """The answers of an operation that comes in pages; `next_key` asks for the next one."""
        while True:
            answer = self.call(operation, **params)
            yield answer
            if not answer.get(next_key):
                return
            params[next_key] = answer[next_key]

    def _answered(self, operation: str, response: Any) -> AwsError:
        code = response.get("Error", {}).get("Code", "")
        status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        message = response.get("Error", {}).get("Message", "") or f"HTTP {status}"
        kind: type[AwsError] = Refused
        if code in THROTTLING or status == 429:
            kind = Throttled
        elif status >= 500:
            kind = Unanswered
        return kind(self.service, operation, code or str(status), message)

    def _error(self, kind: type[AwsError], operation: str, error: Exception) -> AwsError:
        return kind(self.service, operation, type(error).__name__, str(error))


@attrs.frozen(kw_only=True)
class Patience:
    """How often, and for how long in seconds, a call is tried again that was throttled."""

    attempts: int = 12
    wait_initial: float = 0.5
    wait_max: float = 20.0
    wait_jitter: float = 1.0
    timeout: float = 300.0

    def insist(self, call: Callable[[], T], on: type[AwsError] = Throttled) -> T:
        """What `call` gives, tried again with backoff and jitter where it raises `on`."""
        import stamina

        # Else it logs each try to stderr.
        stamina.instrumentation.set_on_retry_hooks([])
        for attempt in stamina.retry_context(
            on=on,
            attempts=self.attempts,
            timeout=self.timeout,
            wait_initial=self.wait_initial,
            wait_max=self.wait_max,
            wait_jitter=self.wait_jitter,
        ):
            with attempt:
                return call()
        raise AssertionError("unreachable: the last attempt returns or raises")


class Pace:
    """Lets callers of all threads through at most so often a second, evenly."""

    def __init__(
        self,
        per_second: float,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._interval = 1 / per_second
        self._clock = clock
        self._sleep = sleep
        self._lock = threading.Lock()
        self._next = 0.0

    def wait(self) -> None:
        """Return when it is this caller's turn."""
        with self._lock:
            now = self._clock()
            turn = max(now, self._next)
            self._next = turn + self._interval
        if turn > now:
            self._sleep(turn - now)


def token(length: int, source: random.Random | None = None) -> str:
    """A random text of so many hex digits."""
    source = source or random.SystemRandom()
    return "".join(source.choice("0123456789abcdef") for _ in range(length))
