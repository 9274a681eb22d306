"""What runners on AWS share: the account, uploads, and the checks of both."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from rvrun.aws import storage
from rvrun.aws.client import Account, AwsError, Client
from rvrun.finding import Finding, Level, error, ok
from rvrun.remote.ledger import RUN_FILE, DamagedRun, Ledger
from rvrun.remote.upload import foreign_configs
from rvrun.runners.run import Run
from rvrun.runners.submissions import check_attempts
from rvrun.settings.schema import Settings, Worker


def account_of(settings: Settings) -> Account:
    """Return the account that the settings name."""
    return Account(profile=settings.aws.profile, region=settings.aws.region)


def account_facts(account: Account) -> dict[str, Any]:
    """Return the facts about its account that the ledger of a run stores."""
    return {"profile": account.profile, "region": account.region_in_force}


def account_of_run(ledger: Ledger) -> Account:
    """Return the account in which a run was submitted, whatever the settings say now."""
    facts = ledger.facts
    profile, region = facts.get("profile"), facts.get("region")
    if not isinstance(profile, str | None) or not isinstance(region, str | None):
        raise DamagedRun(
            str(ledger.folder / RUN_FILE), "`profile` and `region` must be strings or null"
        )
    return Account(profile=profile, region=region)


def upload_all(run: Run, files: Mapping[str, bytes], account: Account) -> None:
    """Write what the jobs of a run read: `files` by URI, and the configs of other systems."""
    configs = {uri: text.encode() for uri, text in foreign_configs(run.planned).items()}
    storage.write_all({**files, **configs}, account)


def read_log_page(
    logs: Client, group: str, stream: str, token: str | None
) -> tuple[list[str], str | None]:
    """Return a page of lines of a stream, and the token of the next page.

    At the end of what is there, CloudWatch returns the token that it was given; before that, a page
    may be empty (CloudWatch Logs API Reference, GetLogEvents).
    """
    position = {} if token is None else {"nextToken": token}
    answer = logs.call(
        "GetLogEvents",
        logGroupName=group,
        logStreamName=stream,
        startFromHead=True,
        **position,
    )
    return [event.get("message", "") for event in answer["events"]], answer["nextForwardToken"]


def check_account(
    run: Run, runner: str, worker: Worker, check: Callable[[Account], Iterator[Finding]]
) -> Iterator[Finding]:
    """Check the account, then what the runner's own `check` looks at, then the buckets."""
    account = account_of(run.settings)
    identity = _identity(account)
    yield identity
    if identity.level is Level.ERROR:
        return
    yield from check(account)
    yield from _buckets(account, [pipeline.root_uri for pipeline in run.planned])
    yield from check_attempts(runner, run, worker)


def _identity(account: Account) -> Finding:
    """Whether there are valid credentials and a region."""
    try:
        answer = account.reader("sts").call("GetCallerIdentity")
    except AwsError as problem:
        fix = "log in (`aws configure`, `aws sso login`), and set AWS_REGION"
        return error("aws", problem, fix)
    return ok("aws", f"{answer['Arn']}, region {account.region_in_force}")


def _buckets(account: Account, roots: Sequence[str]) -> Iterator[Finding]:
    """Whether the buckets of the pipelines' roots exist and may be used."""
    for bucket in dict.fromkeys(storage.split_s3(root)[0] for root in roots):
        try:
            account.reader("s3").call("HeadBucket", Bucket=bucket)
        except AwsError as problem:
            fix = f"create it (`aws s3 mb s3://{bucket}`), or add permission to read and write it"
            yield error("bucket", f"{bucket}: {problem}", fix)
        else:
            yield ok("bucket", f"s3://{bucket} can be reached")
