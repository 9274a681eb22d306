"""`sagemaker`: SageMaker Pipelines. Rendered, started, looked at, stopped and retried."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator, Mapping, Sequence

import attrs

from rvrun.aws import storage
from rvrun.aws.client import Account, AwsError, Client, Refused
from rvrun.finding import Finding
from rvrun.remote import ledger as ledgers
from rvrun.remote.ledger import CANCELLED, INTENDED, SUBMITTED, Ledger
from rvrun.remote.state import NothingToRetry, RunState, State, StillGoing, Told
from rvrun.remote.upload import check_roots, is_rvrun, save, ship
from rvrun.runners.aws_common import examined, notes, unfinished
from rvrun.runners.problems import checked
from rvrun.runners.protocol import Run
from rvrun.runners.sagemaker.check import check_images, check_role, check_workers
from rvrun.runners.sagemaker.definition import problems, render_definition, request
from rvrun.runners.sagemaker.files import (
    FOLDER,
    Submission,
    Written,
    read_submissions,
    read_uploads,
    write_files,
)
from rvrun.runners.sagemaker.logs import place_of, read_log
from rvrun.runners.sagemaker.machine import machine, missing
from rvrun.runners.sagemaker.quota import quota_problems
from rvrun.runners.sagemaker.role import find_arn, is_name
from rvrun.runners.sagemaker.state import (
    RETRIED,
    Execution,
    executions,
    is_cancelled,
    read_state,
)
from rvrun.runners.sagemaker.steps import Definition, Place, definitions
from rvrun.runners.sagemaker.submit import (
    MISSING,
    RETRY,
    STARTED,
    STOP,
    Submitter,
    display_name,
    failed_to_start,
    started,
)
from rvrun.settings.overrides import check_globs, matches
from rvrun.settings.schema import SagemakerSettings, Settings, project_file

RUNNER = "sagemaker"
OWNS = (FOLDER,)
TITLE = "SageMaker Pipelines"


def render(run: Run) -> dict[str, str]:
    """The definitions, and what their jobs read: all that is needed to start them.

    Raises `LocalRoot`, `NoMatch`, or `Unfit` with all else that SageMaker would refuse.
    """
    check_roots(run.planned, TITLE)
    settings = run.settings.sagemaker
    names = [f"{each.name}/{c.name}" for each in run.pipelines for c in each.declared.commands]
    check_globs("sagemaker.commands", settings.commands, names)
    places = _places(run)
    shipments = [place.shipment for place in places.values()]
    written = [
        _write(definition, run, places[definition.pipelines[0]].root_uri)
        for definition in definitions(run.plan, settings, places, run.run_name)
    ]
    checked(
        TITLE,
        [
            *missing(run.plan, settings, project_file()),
            *_setting_problems(run.settings.sagemaker, names),
            *_same_names([each.definition for each in written]),
            *quota_problems(run.plan, settings, places, run.run_name),
            *(found for each in written for found in problems(each.values, each.request)),
        ],
    )
    shipped = {uri: text for each in shipments for uri, text in each.files.items()}
    told = notes(run, shipments, settings.worker)
    return {
        **write_files(written, shipped),
        **{f"{FOLDER}/{name}": text for name, text in told.items()},
    }


def _places(run: Run) -> dict[str, Place]:
    return {
        each.name: Place(
            shipment=ship(each, run.settings.sagemaker.worker),
            root_uri=each.root_uri,
            verbosity=run.verbosity,
        )
        for each in run.planned
    }


def _write(definition: Definition, run: Run, root_uri: str) -> Written:
    settings = run.settings.sagemaker
    return Written(
        definition=definition,
        values=render_definition(definition, settings, run.settings.templates),
        request=request(definition, settings),
        root_uri=root_uri,
    )


def _same_names(found: Sequence[Definition]) -> Iterator[str]:
    """Pipelines whose names differ in no more than what SageMaker does not take."""
    names = [definition.name for definition in found]
    for name in dict.fromkeys(names):
        same = [each.pipelines[0] for each in found if each.name == name]
        if len(same) > 1:
            yield (
                f"pipelines {', '.join(f'`{each}`' for each in same)} would all be named {name!r}; "
                'rename one, or leave out `sagemaker.definitions = "each"`'
            )


def _setting_problems(settings: SagemakerSettings, names: Sequence[str]) -> Iterator[str]:
    """Settings that say nothing: a name for what has several, a command that is none."""
    if settings.definitions == "each" and settings.pipeline_name is not None:
        yield (
            f"`sagemaker.pipeline_name` is {settings.pipeline_name!r}, and with "
            '`sagemaker.definitions = "each"` every pipeline has its own name: leave one out'
        )
    for glob in settings.train_commands:
        # A pipeline need not train, so what nobody said need not match.
        is_said = settings.train_commands != SagemakerSettings().train_commands
        if is_said and not any(matches(glob, name) for name in names):
            known = ", ".join(f"`{name}`" for name in names)
            yield f"`sagemaker.train_commands` has {glob!r}, which matches no command: {known}"


def examine(run: Run) -> Iterator[Finding]:
    """Whether AWS would take the run: the account, its role and images, the buckets."""
    settings = run.settings.sagemaker

    def ask(account: Account) -> Iterator[Finding]:
        yield from check_role(account.reader("iam"), settings.role or "")
        stages = [(each.name, stage) for each in run.plan.pipelines for stage in each.stages]
        images = [machine(name, stage, settings).image for name, stage in stages]
        yield from check_images(account, images)
        yield from check_workers(_instanced(run))

    return examined(run, RUNNER, settings.worker, ask)


def _instanced(run: Run) -> list[str]:
    """Stages that rvrun's worker runs though another system's own is wanted."""
    settings, places = run.settings.sagemaker, _places(run)
    found = {
        step.stage: None
        for definition in definitions(run.plan, settings, places, run.run_name)
        for step in definition.jobs()
        if places[step.stage.partition("/")[0]].shipment.own_adapter and is_rvrun(step.entrypoint)
    }
    return list(found)


def risks(files: Mapping[str, str]) -> Iterator[str]:
    """Nothing: SageMaker tries again what failed by its own fault, not the command's."""
    return iter(())


def _with_role(run: Run, account: Account) -> Run:
    """The run with the ARN of its role, where the settings have no more than its name."""
    said = run.settings.sagemaker
    if said.role is None or not is_name(said.role):
        return run
    found = attrs.evolve(said, role=find_arn(said.role, account.reader("iam")))
    return attrs.evolve(run, settings=attrs.evolve(run.settings, sagemaker=found))


def submit(run: Run, told: Told) -> Ledger:
    """Start all of `run`; where one of the same was cut off, go on with that."""
    account = run.account
    run = _with_role(run, account)
    files = render(run)
    ledger = _unfinished(run.run_dir, files)
    if ledger is None:
        ledger = ledgers.create(run.run_dir, run.run_name, RUNNER, account, files)
    save(run.planned, account)
    storage.write_all(read_uploads(ledger.round_folder(1)), account)
    submissions = read_submissions(ledger.round_folder(1))
    submitter = _submitter(ledger)
    for done, submission in enumerate(submissions, start=1):
        try:
            submitter.submit(submission)
        except AwsError as error:
            raise failed_to_start(ledger, len(submissions), error) from error
        told(done, len(submissions))
    ledger.note(SUBMITTED)
    return ledger


def _submitter(ledger: Ledger) -> Submitter:
    # It asks again by itself, and more patiently than botocore.
    return Submitter(ledger=ledger, sagemaker=ledger.account.maker(RUNNER))


def _unfinished(run_dir: pathlib.Path, files: Mapping[str, str]) -> Ledger | None:
    """The run that was cut off and is to go on, if there is one; see `unfinished`."""
    if (last := ledgers.last(run_dir, RUNNER)) is None:
        return None
    return unfinished(
        last,
        files,
        cancelled=is_cancelled(last),
        submitted=last.has(SUBMITTED),
        look=lambda: state(last),
    )


def state(ledger: Ledger) -> RunState:
    """How a run stands."""
    return read_state(ledger, ledger.account.reader(RUNNER))


def logs(ledger: Ledger, target: str, *, follow: bool) -> Iterator[str]:
    """The lines of a target's last try; with `follow` as they come, until it ends."""
    sagemaker = ledger.account.reader(RUNNER)
    place = place_of(executions(ledger, sagemaker), target)
    name = place.execution.submission.name

    def again() -> Execution:
        return next(e for e in executions(ledger, sagemaker) if e.submission.name == name)

    return read_log(place, again, ledger.account.reader("logs"), follow=follow)


def cancel(ledger: Ledger, told: Told) -> int:
    """Stop all executions that go on; how many jobs were to run or ran.

    What was about to be started when the run was cut off is looked for first.
    """
    submitter = _submitter(ledger)
    _find_lost(ledger)
    found = executions(ledger, ledger.account.reader(RUNNER))
    going = [each for each in found if each.arn is not None and not each.is_over]
    for done, execution in enumerate(going, start=1):
        _stop(execution, ledger, submitter)
        told(done, len(going))
    ledger.note(CANCELLED)
    return sum(len(_unfinished_jobs(execution)) for execution in going)


def _stop(execution: Execution, ledger: Ledger, submitter: Submitter) -> None:
    """Stop an execution, unless it has just ended or is being stopped."""
    name, request = execution.submission.name, {"PipelineExecutionArn": execution.arn}
    try:
        number = _next_number(ledger, STOP, name)
        submitter.ask("StopPipelineExecution", STOP, name, request, number)
    except Refused:
        now = submitter.sagemaker.call("DescribePipelineExecution", **request)
        if now["PipelineExecutionStatus"] == "Executing":
            raise


def _unfinished_jobs(execution: Execution) -> list[str]:
    over = (State.SUCCEEDED, State.FAILED, State.GONE)
    return [job.name for job in execution.submission.jobs if execution.state(job) not in over]


def _find_lost(ledger: Ledger) -> None:
    """Note the executions that were started, though that was not noted: by the run's id."""
    known, name = started(ledger), display_name(ledger.run_id)
    intended = {event["pipeline"] for event in ledger.events(INTENDED)}
    for submission in read_submissions(ledger.round_folder(1)):
        if submission.name in intended and submission.name not in known:
            for summary in _summaries(submission, ledger.account.reader(RUNNER)):
                if summary.get("PipelineExecutionDisplayName") == name:
                    arn = summary["PipelineExecutionArn"]
                    ledger.note(STARTED, pipeline=submission.name, execution=arn)


def _summaries(submission: Submission, sagemaker: Client) -> Iterator[Mapping[str, str]]:
    try:
        for page in sagemaker.pages(
            "ListPipelineExecutions", "NextToken", PipelineName=submission.name, MaxResults=100
        ):
            yield from page["PipelineExecutionSummaries"]
    except AwsError as error:
        if error.code != MISSING:
            raise


def _next_number(ledger: Ledger, what: str, pipeline: str) -> int:
    """Which time this is, of a call that each time is meant anew."""
    asked = [(event["what"], event["pipeline"]) for event in ledger.events(INTENDED)]
    return 1 + asked.count((what, pipeline))


def retry(ledger: Ledger, settings: Settings, told: Told) -> int:
    """Go on with the executions that failed or were stopped; how many targets go again.

    What succeeded stays. Where an earlier retry was cut off, go on with that. Raises `StillGoing`,
    `NothingToRetry`.
    """
    submitter = _submitter(ledger)
    found = executions(ledger, ledger.account.reader(RUNNER))
    lost = _lost_retries(ledger)
    failed = [
        each
        for each in found
        if each.arn is not None and (each.has_failed or each.submission.name in lost)
    ]
    if not lost and not all(each.is_over for each in found):
        raise StillGoing(ledger.handle)
    if not failed:
        raise NothingToRetry(ledger.handle)
    again = sum(_num_again(execution) for execution in failed)
    for done, execution in enumerate(failed, start=1):
        name = execution.submission.name
        number = lost[name] if name in lost else _next_number(ledger, RETRY, name)
        asked = {"PipelineExecutionArn": execution.arn}
        submitter.ask("RetryPipelineExecution", RETRY, name, asked, number)
        ledger.note(RETRIED, pipeline=name, number=number)
        told(done, len(failed))
    return again


def _lost_retries(ledger: Ledger) -> dict[str, int]:
    """The retries that were intended and not noted as done: their number, by pipeline."""
    done = {(event["pipeline"], event["number"]) for event in ledger.events(RETRIED)}
    return {
        event["pipeline"]: event["number"]
        for event in ledger.events(INTENDED)
        if event["what"] == RETRY and (event["pipeline"], event["number"]) not in done
    }


def _num_again(execution: Execution) -> int:
    return sum(
        len(job.targets)
        for job in execution.submission.jobs
        if execution.state(job) is not State.SUCCEEDED
    )
