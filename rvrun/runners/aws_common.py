"""What runners on AWS have in common: what `rvrun check` asks, which run a submission goes on with,
and jobs to be tried only once.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from rvrun.adapters import registry as foreign
from rvrun.aws import storage
from rvrun.aws.client import Account, AwsError
from rvrun.finding import Finding, Level, error, ok, warning
from rvrun.remote.ledger import INTENDED, Ledger
from rvrun.remote.state import CutOff, RunState, State, StillGoing
from rvrun.remote.upload import Shipment
from rvrun.runners.protocol import Remote, Run
from rvrun.settings.schema import Worker

#: Other systems' configs by their URIs: a digest of each, so that a change of one shows.
SAVED = "saved-configs.json"
#: Stages whose jobs are to be tried once: what a second try does.
ONCE = "once.json"


def examined(
    run: Run, runner: str, worker: Worker, ask: Callable[[Account], Iterator[Finding]]
) -> Iterator[Finding]:
    """Whether AWS would take the run; `ask` finds what is the runner's own, if we are known."""
    account = run.account
    who = _account(account)
    yield who
    if who.level is Level.ERROR:
        return
    yield from ask(account)
    yield from _buckets(account, [pipeline.root_uri for pipeline in run.planned])
    yield from _tries(runner, run, worker)


def _account(account: Account) -> Finding:
    """Credentials and a region are there and valid; an error where they are not."""
    try:
        who = account.reader("sts").call("GetCallerIdentity")
    except AwsError as problem:
        mend = "log in (`aws configure`, `aws sso login`), and set AWS_REGION"
        return error("aws", problem, mend)
    return ok("aws", f"{who['Arn']}, region {account.region_in_force}")


def _buckets(account: Account, roots: Sequence[str]) -> Iterator[Finding]:
    """The buckets of the pipelines' roots are there and may be asked."""
    for bucket in dict.fromkeys(storage.split_s3(root)[0] for root in roots):
        try:
            account.reader("s3").call("HeadBucket", Bucket=bucket)
        except AwsError as problem:
            mend = f"make it (`aws s3 mb s3://{bucket}`), or get leave to read and write it"
            yield error("bucket", f"{bucket}: {problem}", mend)
        else:
            yield ok("bucket", f"s3://{bucket} can be reached")


def unfinished(
    last: Ledger,
    files: Mapping[str, str],
    *,
    cancelled: bool,
    submitted: bool,
    look: Callable[[], RunState],
) -> Ledger | None:
    """`last`, a run directory's latest run, if it was cut off; None where a new one can begin.

    `cancelled` and `submitted` say whether it was, `look` how it stands. Raises `CutOff` where it
    had other files than `files`, `StillGoing` where it was submitted and is not over.
    """
    if cancelled:
        return None
    if submitted:
        if not look().is_over:
            raise StillGoing(last.handle)
        return None
    if last.num_rounds == 1 and last.round_files(1) == files:
        return last
    if last.has(INTENDED):
        raise CutOff(last.handle)
    return None


def notes(run: Run, shipments: Iterable[Shipment], worker: Worker) -> dict[str, str]:
    """Files about what travels, SAVED and ONCE; each only where there is something to tell."""
    told = {
        SAVED: {each.config_uri: each.digest for each in shipments if each.digest},
        ONCE: _only_once(run, worker),
    }
    return {
        name: json.dumps(values, indent=2, ensure_ascii=False) + "\n"
        for name, values in told.items()
        if values
    }


def _only_once(run: Run, worker: Worker) -> dict[str, str]:
    """The planned stages that `worker` must not try twice, `tiny/chip`: what a second try does."""
    repeated = {
        pipeline.name: adapter.repeated(pipeline.document)
        for pipeline in run.planned
        if worker == "own" and (adapter := foreign.of_document(pipeline.document)) is not None
    }
    return {
        f"{pipeline.name}/{stage.command}": repeated[pipeline.name][stage.command]
        for pipeline in run.plan.pipelines
        for stage in pipeline.stages
        if stage.command in repeated.get(pipeline.name, ())
    }


def _tries(runner: str, run: Run, worker: Worker) -> Iterator[Finding]:
    """Jobs may be tried twice without doing anything twice."""
    for stage, problem in _only_once(run, worker).items():
        mend = f'have rvrun in the image, and set `{runner}.worker = "rvrun"`'
        yield warning("tries", second_try(stage, problem), mend)


def second_try(stage: str, problem: str) -> str:
    """What a second try does, as a sentence."""
    return f"a second try of {stage} {problem}"


def retried_twice(ledger: Ledger, remote: Remote) -> Iterator[str]:
    """What of a run is to be tried once and began and failed, so that a retry is its second try."""
    once: dict[str, str] = {}
    for name in remote.OWNS:
        if (path := ledger.round_folder(1) / name / ONCE).exists():
            once |= json.loads(path.read_text(encoding="utf-8"))
    if not once:
        return
    for stage in remote.state(ledger).stages:
        if stage.name in once and stage.count(State.FAILED) and stage.began is not None:
            yield (
                f"{second_try(stage.name, once[stage.name])}; if the failed one wrote some, cancel "
                "this retry, empty that folder, and run all of it again"
            )
