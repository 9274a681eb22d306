"""The only module that imports boto3: clients, AWS's errors as rvrun's errors, and rate limits.

There are two kinds of clients. Those that only read let botocore retry. Those that create something
never retry by themselves, because the caller has to find out whether a call without an answer was
carried out.
"""

from __future__ import annotations

import contextlib
import functools
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import attrs

from rvrun.errors import RvrunError, Transient

T = TypeVar("T")

#: The code of errors for replies that lack what was asked for.
NO_ANSWER = "NoAnswer"

#: Error codes by which AWS refuses a call because there are too many: it was not carried out.
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
#: Error codes by which AWS says that a permission is missing.
DENIED = ("AccessDenied", "AccessDeniedException")
#: The code by which CloudWatch Logs says that a group or stream does not exist.
NOT_FOUND = "ResourceNotFoundException"
#: How often botocore attempts a call that only reads.
READ_ATTEMPTS = 8
#: What to do about errors, by code.
_FIXES = {
    "NoCredentialsError": "log in (`aws configure`, `aws sso login`), or set AWS_PROFILE or the "
    "setting `aws.profile`",
    "NoRegionError": "set AWS_REGION, or the setting `aws.region`",
    "ProfileNotFound": "change AWS_PROFILE or the setting `aws.profile`",
    "ExpiredToken": "log in again",
    "ExpiredTokenException": "log in again",
}
#: Permissions that are not called like their operation (Service Authorization Reference).
_PERMISSIONS = {"HeadBucket": "ListBucket"}
#: Services whose permissions do not begin with the name of their client.
_PREFIXES = {"service-quotas": "servicequotas"}


class AwsError(RvrunError):
    """A call that AWS did not carry out, or may not have carried out.

    - `code`: AWS's own error code, or the name of botocore's exception.
    - `message`: the words of AWS or botocore.
    """

    service: str
    operation: str
    code: str
    message: str

    def __str__(self) -> str:
        fix = self.how_to_fix()
        text = f"AWS {self.service} {self.operation}: {self.message} ({self.code})"
        return f"{text}; {fix}" if fix else text

    def how_to_fix(self) -> str:
        if self.code in DENIED:
            permission = _PERMISSIONS.get(self.operation, self.operation)
            prefix = _PREFIXES.get(self.service, self.service)
            return f"add the `{prefix}:{permission}` permission"
        return _FIXES.get(self.code, "")


class Throttled(AwsError, Transient):
    """Not carried out: there were too many calls, or no connection was established."""


class Unanswered(AwsError, Transient):
    """Perhaps carried out: the connection broke or the service failed before it answered."""


class Refused(AwsError):
    """Not carried out, and repeating the call would not help."""


class _Answer(dict[str, Any]):
    """The answer of a call; a missing member raises `Unanswered`.

    botocore parses a reply that was cut off, or that a proxy sent, as an empty answer, and AWS's
    models hardly say which members an answer always has.
    """

    def __init__(self, service: str, operation: str, members: Mapping[str, Any]) -> None:
        super().__init__(members)
        self._call = (service, operation)

    def __missing__(self, name: str) -> Any:
        raise Unanswered(*self._call, NO_ANSWER, f"the reply lacks `{name}`")


@attrs.frozen(kw_only=True)
class Account:
    """An AWS account and region; None means what AWS's own configuration says."""

    profile: str | None = None
    region: str | None = None

    def reader(self, service: str) -> Client:
        """Return a client for calls that only read, or that are harmless to repeat.

        Raises `Refused` if AWS's configuration is not usable.
        """
        return Client(service, _client(self.profile, self.region, service, READ_ATTEMPTS))

    def maker(self, service: str) -> Client:
        """Return a client that makes each call once. Raises `Refused` like `reader`."""
        return Client(service, _client(self.profile, self.region, service, 1))

    @property
    def region_in_force(self) -> str | None:
        """The region that clients use; None if none is configured."""
        return self.region or _session(self.profile).region_name


_session_lock = threading.Lock()


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
    # Unlike clients, boto3's sessions are not thread-safe.
    with _session_lock:
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
        """Return the answer of `operation`, named as AWS writes it: `SubmitJob`.

        Looking up a member that the answer lacks raises `Unanswered`, as if there were no answer.
        """
        from botocore import xform_name

        with self._translated(operation):
            members = getattr(self.boto, xform_name(operation))(**params)
        answer = _Answer(self.service, operation, members)
        # What the model does require is looked up here, so that a caller may repeat the call.
        shape = self.boto.meta.service_model.operation_model(operation).output_shape
        for name in shape.required_members if shape else ():
            answer[name]
        return answer

    def content(self, operation: str, **params: Any) -> bytes:
        """Return the whole body of the answer of `operation`."""
        answer = self.call(operation, **params)
        with self._translated(operation):
            content: bytes = answer["Body"].read()
        return content

    def pages(self, operation: str, next_key: str, **params: Any) -> Iterator[dict[str, Any]]:
        """Yield the answers of a paginated operation, whose token for the next is `next_key`."""
        while True:
            answer = self.call(operation, **params)
            yield answer
            if not answer.get(next_key):
                return
            params[next_key] = answer[next_key]

    @contextlib.contextmanager
    def _translated(self, operation: str) -> Iterator[None]:
        """Translate botocore's errors by whether the call may have been carried out."""
        import botocore.exceptions as botocore
        from botocore.parsers import ResponseParserError

        def translate(kind: type[AwsError], error: Exception) -> AwsError:
            return kind(self.service, operation, type(error).__name__, str(error))

        try:
            yield
        except botocore.ClientError as error:
            raise self._answered(operation, error.response) from None
        except (botocore.EndpointConnectionError, botocore.ConnectTimeoutError) as error:
            # No connection, so the request was never sent.
            raise translate(Throttled, error) from None
        except (
            botocore.HTTPClientError,
            botocore.ConnectionError,
            botocore.IncompleteReadError,
        ) as error:
            raise translate(Unanswered, error) from None
        except (ResponseParserError, KeyError):
            # What a proxy sent where AWS sends XML; botocore looks up what other XML lacks.
            problem = "the reply cannot be read"
            raise Unanswered(self.service, operation, NO_ANSWER, problem) from None
        except botocore.BotoCoreError as error:
            raise translate(Refused, error) from None

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


@attrs.frozen(kw_only=True)
class Patience:
    """How often, and for how many seconds in total, a failed call is repeated."""

    attempts: int = 12
    wait_initial: float = 0.5
    wait_max: float = 20.0
    wait_jitter: float = 1.0
    timeout: float = 300.0

    def insist(self, call: Callable[[], T], *on: type[AwsError]) -> T:
        """Return what `call` returns; repeat it with backoff and jitter while it raises `on`.

        - `on`: classes of errors; default: `Throttled`.

        Raises the last such error; any other error is raised immediately.
        """
        import stamina

        # By default stamina logs each attempt to stderr.
        stamina.instrumentation.set_on_retry_hooks([])
        for attempt in stamina.retry_context(on=on or (Throttled,), **attrs.asdict(self)):
            with attempt:
                return call()
        raise AssertionError("unreachable: the last attempt returns or raises")


class Pace:
    """A rate limit shared by threads: calls are evenly spaced, and idle time is not saved up."""

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
        # Outside of the lock, so that waiting callers do not delay those who take a later turn.
        if turn > now:
            self._sleep(turn - now)
