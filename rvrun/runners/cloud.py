"""What `rvrun check` asks AWS whatever the runner: who we are, whether roots can be reached."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rvrun import storage
from rvrun.aws import Account, AwsError
from rvrun.findings import Finding, error, ok, warning
from rvrun.load import LoadedPipeline
from rvrun.settings import Worker
from rvrun.shipping import repeated


def check_account(account: Account) -> Iterator[Finding]:
    """Credentials and a region are there and valid; an error where they are not."""
    try:
        who = account.reader("sts").call("GetCallerIdentity")
    except AwsError as problem:
        mend = "log in (`aws configure`, `aws sso login`), and set AWS_REGION"
        yield error("aws", problem, mend)
    else:
        yield ok("aws", f"{who['Arn']}, region {account.region_in_force}")


def check_buckets(account: Account, roots: Sequence[str]) -> Iterator[Finding]:
    """The buckets of the pipelines' roots are there and may be asked."""
    for bucket in dict.fromkeys(storage.split_s3(root)[0] for root in roots):
        try:
            account.reader("s3").call("HeadBucket", Bucket=bucket)
        except AwsError as problem:
            mend = f"make it (`aws s3 mb s3://{bucket}`), or get leave to read and write it"
            yield error("bucket", f"{bucket}: {problem}", mend)
        else:
            yield ok("bucket", f"s3://{bucket} can be reached")


def check_tries(
    runner: str, pipelines: Sequence[LoadedPipeline], worker: Worker
) -> Iterator[Finding]:
    """Jobs may be tried twice without doing anything twice."""
    for text in repeated(pipelines, worker):
        mend = f'have rvrun in the image, and set `{runner}.worker = "rvrun"`'
        yield warning("tries", text, mend)
