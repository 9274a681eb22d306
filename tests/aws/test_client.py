"""Clients of AWS: errors, pages, retries and the rate limit."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator

import pytest

from rvrun.aws import client as aws
from rvrun.aws.client import (
    Account,
    AwsError,
    Client,
    Pace,
    Patience,
    Refused,
    Throttled,
    Unanswered,
)
from tests.engines.http import Reply, Request, Server
from tests.engines.moto import DUMMY

Respond = Callable[[Request], Reply | None]

pytestmark = pytest.mark.usefixtures("processes")  # servers on loopback


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Each test gets its own clients."""
    for name, value in DUMMY.items():
        monkeypatch.setenv(name, value)
    for name in ("AWS_PROFILE", "AWS_REGION"):
        monkeypatch.delenv(name, raising=False)
    aws._client.cache_clear()
    yield
    aws._client.cache_clear()


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Respond], Account]]:
    """Lets a function answer all calls of AWS."""
    servers: list[Server] = []

    def begin(respond: Respond) -> Account:
        servers.append(Server(respond))
        monkeypatch.setenv("AWS_ENDPOINT_URL", servers[-1].url)
        return Account()

    yield begin
    for server in servers:
        server.close()


def error_reply(status: int, code: str, message: str = "because") -> Reply:
    body = json.dumps({"message": message}).encode()
    return Reply(status, body, {"x-amzn-errortype": code, "Content-Type": "application/json"})


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (429, "TooManyRequestsException", Throttled),
        (400, "ThrottlingException", Throttled),
        (429, "Other", Throttled),
        (503, "SlowDown", Throttled),
        (500, "ServerException", Unanswered),
        (502, "", Unanswered),
        (400, "ClientException", Refused),
        (403, "AccessDeniedException", Refused),
    ],
)
def test_kinds_of_errors(
    serve: Callable[[Respond], Account], status: int, code: str, kind: type[AwsError]
) -> None:
    """Not carried out for now, perhaps carried out, refused; a `maker` makes each call once."""
    paths: list[str] = []

    def respond(request: Request) -> Reply:
        paths.append(request.path)
        return error_reply(status, code)

    with pytest.raises(kind) as caught:
        serve(respond).maker("batch").call("DescribeJobs", jobs=["a"])
    assert type(caught.value) is kind
    assert paths == ["/v1/describejobs"]
    assert (caught.value.service, caught.value.operation) == ("batch", "DescribeJobs")


def test_errors_are_sentences(serve: Callable[[Respond], Account]) -> None:
    """The operation, AWS's message, its code, and a fix if one is known."""
    replies = iter(
        [
            error_reply(400, "ClientException", "no such queue"),
            error_reply(403, "AccessDeniedException", "not you"),
            error_reply(400, "ExpiredTokenException", "too late"),
        ]
    )
    batch = serve(lambda request: next(replies)).maker("batch")
    wanted = [
        "AWS batch DescribeJobs: no such queue (ClientException)",
        "AWS batch DescribeJobs: not you (AccessDeniedException); add the `batch:DescribeJobs` "
        "permission",
        "AWS batch DescribeJobs: too late (ExpiredTokenException); log in again",
    ]
    for text in wanted:
        with pytest.raises(Refused) as caught:
            batch.call("DescribeJobs", jobs=["a"])
        assert str(caught.value) == text


def test_permissions_are_named_as_in_policies() -> None:
    """Also if they are not called like the operation."""
    error = Refused("s3", "HeadBucket", "AccessDenied", "no")
    assert error.how_to_fix() == "add the `s3:ListBucket` permission"
    assert str(error).endswith("; add the `s3:ListBucket` permission")


def test_a_connection_that_breaks(serve: Callable[[Respond], Account]) -> None:
    """The call may have been carried out."""
    with pytest.raises(Unanswered, match=r"^AWS batch DescribeJobs: .*\(\w+Error\)$"):
        serve(lambda request: None).maker("batch").call("DescribeJobs", jobs=["a"])


def test_a_reply_that_is_cut_off(serve: Callable[[Respond], Account]) -> None:
    """For example by a proxy that gave up."""
    cut = Reply(200, b'{"jobName": "a", "job', {"Content-Type": "application/json"})
    job = {"jobName": "a", "jobQueue": "b", "jobDefinition": "c"}
    with pytest.raises(Unanswered) as caught:
        serve(lambda request: cut).maker("batch").call("SubmitJob", **job)
    assert str(caught.value) == "AWS batch SubmitJob: the reply lacks `jobName` (NoAnswer)"


@pytest.mark.parametrize("body", [b"", b"{}", b"<html>gateway</html>"])
def test_a_reply_without_what_was_asked_for(
    serve: Callable[[Respond], Account], body: bytes
) -> None:
    """It counts as lost, although AWS's models do not require these members."""
    reply = Reply(200, body, {"Content-Type": "application/json"})
    account = serve(lambda request: reply)
    with pytest.raises(Unanswered, match="DescribeJobs: the reply lacks `jobs` "):
        account.reader("batch").call("DescribeJobs", jobs=["a"])["jobs"]
    answer = account.reader("sagemaker").call("StartPipelineExecution", PipelineName="a")
    with pytest.raises(Unanswered, match="the reply lacks `PipelineExecutionArn` "):
        answer["PipelineExecutionArn"]


@pytest.mark.parametrize("body", [b"", b"<html><br></html>", b'{"jobs": []}', b"<a/>"])
def test_a_reply_of_something_else(serve: Callable[[Respond], Account], body: bytes) -> None:
    """Where AWS answers with XML, a proxy's page cannot even be parsed."""
    account = serve(lambda request: Reply(200, body, {"Content-Type": "text/html"}))
    with pytest.raises(Unanswered, match=r"GetCallerIdentity: the reply (cannot be read|lacks)"):
        account.maker("sts").call("GetCallerIdentity")["Arn"]


def test_no_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a connection, nothing was carried out."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{unused.getsockname()[1]}")
        with pytest.raises(Throttled, match="Could not connect"):
            Account().maker("batch").call("DescribeJobs", jobs=["a"])


def test_an_invalid_request(serve: Callable[[Respond], Account]) -> None:
    """It is refused before anything is sent."""
    with pytest.raises(Refused, match="Parameter validation failed"):
        serve(lambda request: None).maker("batch").call("DescribeJobs", jobs="a")


def test_reads_are_retried(
    serve: Callable[[Respond], Account], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`botocore` does that itself."""
    monkeypatch.setattr("botocore.retries.standard.ExponentialBackoff.delay_amount", lambda *a: 0)
    replies = iter([error_reply(500, "ServerException"), None, Reply(200, b'{"jobs": []}')])
    answer = serve(lambda request: next(replies)).reader("batch").call("DescribeJobs", jobs=["a"])
    assert answer["jobs"] == []


def test_pages_follow_each_other(serve: Callable[[Respond], Account]) -> None:
    """The last page has no token; an empty page need not be the last."""
    pages = {None: ("a", "1"), "1": (None, "2"), "2": ("b", None)}

    def respond(request: Request) -> Reply:
        name, token = pages[json.loads(request.body).get("nextToken")]
        jobs = [] if name is None else [{"jobId": name, "jobName": name}]
        return Reply(200, json.dumps({"jobSummaryList": jobs, "nextToken": token}).encode())

    batch = serve(respond).reader("batch")
    ids = [
        job["jobId"]
        for page in batch.pages("ListJobs", "nextToken", jobQueue="cpu")
        for job in page["jobSummaryList"]
    ]
    assert ids == ["a", "b"]


def test_bodies_are_read_whole(serve: Callable[[Respond], Account]) -> None:
    """`content` returns the bytes of an answer that streams them."""
    s3 = serve(lambda request: Reply(200, b"content")).maker("s3")
    assert s3.content("GetObject", Bucket="bucket", Key="key") == b"content"


@pytest.mark.parametrize(
    ("account", "message"),
    [
        (
            Account(profile="nobody"),
            "AWS configuration profile: The config profile (nobody) could not be found "
            "(ProfileNotFound); change AWS_PROFILE or the setting `aws.profile`",
        ),
        (
            Account(),
            "AWS batch client: You must specify a region. (NoRegionError); set AWS_REGION, or the "
            "setting `aws.region`",
        ),
    ],
)
def test_an_incomplete_configuration(
    monkeypatch: pytest.MonkeyPatch, account: Account, message: str
) -> None:
    """The error says what to set."""
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    aws._session.cache_clear()
    with pytest.raises(Refused) as caught:
        account.maker("batch")
    assert str(caught.value) == message
    aws._session.cache_clear()


def test_no_credentials(
    serve: Callable[[Respond], Account], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No call is made without credentials."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name)
    aws._session.cache_clear()
    with pytest.raises(Refused, match=r"\(NoCredentialsError\); log in \(`aws configure`, "):
        serve(lambda request: None).maker("batch").call("DescribeJobs", jobs=["a"])
    aws._session.cache_clear()


def test_the_region_in_force(monkeypatch: pytest.MonkeyPatch) -> None:
    """The given region, else that of AWS's own configuration."""
    aws._session.cache_clear()
    assert Account(region="eu-west-1").region_in_force == "eu-west-1"
    assert Account().region_in_force == "us-east-1"


# Rate limit and retries.


def test_a_pace_is_even() -> None:
    """Calls are evenly spaced however many come together, and idle time is not saved up."""
    now = [100.0]
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(round(seconds, 6))

    pace = Pace(4, clock=lambda: now[0], sleep=sleep)
    for _ in range(3):
        pace.wait()
    assert slept == [0.25, 0.5]
    now[0] += 100
    for _ in range(2):
        pace.wait()
    assert slept == [0.25, 0.5, 0.25]


QUICK = Patience(attempts=4, wait_initial=0, wait_max=0, wait_jitter=0)


def throttled() -> Throttled:
    return Throttled("batch", "SubmitJob", "TooManyRequestsException", "slow down")


def test_throttled_calls_are_retried(capfd: pytest.CaptureFixture[str]) -> None:
    """Silently, up to the given number of attempts, after which the error is raised."""
    answers: Iterator[object] = iter([throttled(), throttled(), "done"])

    def call() -> object:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert QUICK.insist(call) == "done"
    attempts: list[int] = []

    def never() -> None:
        attempts.append(1)
        raise throttled()

    with pytest.raises(Throttled):
        QUICK.insist(never)
    assert len(attempts) == 4
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("kind", [Unanswered, Refused])
def test_other_errors_are_not_retried(kind: type[AwsError]) -> None:
    """The caller must find out whether an unanswered call was carried out."""
    attempts: list[int] = []

    def call() -> None:
        attempts.append(1)
        raise kind("batch", "SubmitJob", "X", "y")

    with pytest.raises(kind):
        QUICK.insist(call)
    assert attempts == [1]


def test_clients_are_cached(serve: Callable[[Respond], Account]) -> None:
    """Creating one is slow; a reader and a maker are different clients."""
    account = serve(lambda request: None)
    assert account.reader("batch") == account.reader("batch")
    assert account.reader("batch") != account.maker("batch")
    assert isinstance(account.reader("batch"), Client)
