"""What detached runners share: which submission to continue, and jobs to be attempted only once."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping

from rvrun.adapters import registry as adapters
from rvrun.finding import Finding, warning
from rvrun.inputs import read_object
from rvrun.remote.errors import Interrupted, StillRunning
from rvrun.remote.ledger import INTENDED, RESTORE, Ledger
from rvrun.remote.state import RunState, State
from rvrun.remote.upload import Upload
from rvrun.runners.run import Run
from rvrun.settings.schema import Worker

#: Digests of other systems' configs by their URIs, so that a changed config changes the files.
SAVED = "saved-configs.json"
#: Stages whose jobs must be attempted only once, with what a second attempt does.
ONCE = "once.json"


def unfinished(
    last: Ledger,
    files: Mapping[str, str],
    *,
    cancelled: bool,
    submitted: bool,
    has_jobs: bool = False,
    read_state: Callable[[], RunState],
) -> Ledger | None:
    """Return `last` if its submission was interrupted and must be continued, else None.

    - `last`: the latest run of a run directory. `files`: what would be submitted now.
    - `cancelled`, `submitted`: whether it was.
    - `has_jobs`: whether the service knows jobs of it, whatever the ledger says.

    Raises `Interrupted` if its files were different ones, `StillRunning` while it is.
    """
    if cancelled:
        return None
    if submitted:
        if not read_state().is_over:
            raise StillRunning(last.handle, same_files=last.round_files(1) == files)
        return None
    if last.num_rounds == 1 and last.round_files(1) == files:
        return last
    # Without an intention no call was made, so nothing of it can be running.
    if has_jobs or last.has(INTENDED):
        raise Interrupted(last.handle)
    return None


def check_unread(last: Ledger | None, read_state: Callable[[Ledger], RunState]) -> None:
    """Raise if jobs may still read the files of a run directory, which are about to change.

    - `last`: the latest run of the run directory, if there is one.

    Raises `StillRunning`, or `Interrupted` if not all of it was submitted.
    """
    if last is None or not last.has(INTENDED):
        return
    state = read_state(last)
    if not state.is_over:
        raise StillRunning(last.handle) if state.submitted else Interrupted(last.handle)


def notes(run: Run, uploads: Iterable[Upload], worker: Worker) -> dict[str, str]:
    """Return the files SAVED and ONCE, omitting those without entries."""
    contents = {
        SAVED: {upload.config_uri: upload.digest for upload in uploads if upload.digest},
        ONCE: _once(run, worker),
    }
    return {
        name: json.dumps(values, indent=2, ensure_ascii=False) + "\n"
        for name, values in contents.items()
        if values
    }


def _once(run: Run, worker: Worker) -> dict[str, str]:
    """What a second attempt does, by planned stage that `worker` must not attempt twice."""
    repeated = {
        pipeline.name: adapter.repeated(pipeline.document)
        for pipeline in run.planned
        if worker == "own" and (adapter := adapters.of_document(pipeline.document)) is not None
    }
    return {
        f"{pipeline.name}/{stage.command}": repeated[pipeline.name][stage.command]
        for pipeline in run.plan.pipelines
        for stage in pipeline.stages
        if stage.command in repeated.get(pipeline.name, ())
    }


def check_attempts(runner: str, run: Run, worker: Worker) -> Iterator[Finding]:
    """Warn about stages that must not be attempted twice."""
    for stage, effect in _once(run, worker).items():
        fix = f'install rvrun in the image, and set `{runner}.worker = "rvrun"`'
        yield warning("attempts", second_attempt(stage, effect), fix)


def second_attempt(stage: str, effect: str) -> str:
    """Say what a second attempt of `stage` does."""
    return f"a second attempt of {stage} {effect}"


def retried_twice(
    ledger: Ledger, owned: Iterable[str], read_state: Callable[[], RunState]
) -> Iterator[str]:
    """Warn about non-idempotent stages that already failed once.

    - `owned`: the folders of the runner's files in a round.
    """
    once: dict[str, str] = {}
    for folder in owned:
        if (path := ledger.round_folder(1) / folder / ONCE).exists():
            once |= read_object(str(path), RESTORE)
    if not once:
        # Most runs have no such stage, and the state costs calls to the service.
        return
    for stage in read_state().stages:
        # A stage that never began has written nothing.
        if stage.name in once and stage.count(State.FAILED) and stage.began is not None:
            yield (
                f"{second_attempt(stage.name, once[stage.name])}; if the failed attempt wrote "
                "files, cancel this retry, empty that directory, and start a new run"
            )
