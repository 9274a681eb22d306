"""The runner `batch`: a plan as jobs of AWS Batch.

- `render`: `jobs` turns split stages into array jobs, `specs` says what each request contains, the
  template lays it out, `validate` and `limits` check it, `spec_files` names and reads it.
- `lifecycle`: `submit` submits each spec exactly once, `state` looks at the jobs, `retry` makes the
  specs of what failed. `inventory` finds lost and duplicate jobs, `looks` reports these, `recover`
  finds whole runs. `logs` reads what a target printed.
- `api` has the calls of Batch. With `environment` and `boot` a job finds its split.

Every function imports what it needs, because rvrun loads every runner to know its settings.
"""

from __future__ import annotations

from rvrun.runners.batch.settings import BatchSettings
from rvrun.runners.capabilities import Capabilities

TYPE_CHECKING = False
if TYPE_CHECKING:
    import pathlib
    from collections.abc import Iterator, Mapping

    from rvrun.finding import Finding
    from rvrun.model import Stage
    from rvrun.plan.estimate import Hardware
    from rvrun.remote.ledger import Ledger
    from rvrun.remote.state import Progress, RunState, TargetReports
    from rvrun.runners.run import Run
    from rvrun.settings.schema import Settings

TITLE = "AWS Batch"
SETTINGS = BatchSettings
CAPABILITIES = Capabilities(
    detached=True, needs_remote_storage=True, recovers=True, reports_targets=True
)
TEMPLATES = ("batch-job.json.j2",)
OWNS = ("batch",)


def render(run: Run) -> dict[str, str]:
    from rvrun.runners.batch.render import render

    return render(run)


def hardware(settings: Settings, name: str, stage: Stage) -> Hardware:
    from rvrun.runners.batch.hardware import hardware

    return hardware(settings, name, stage)


def check_machine(settings: Settings) -> Iterator[Finding]:
    return iter(())


def split_index(environ: Mapping[str, str]) -> int | None:
    from rvrun.runners.batch.environment import split_index

    return split_index(environ)


def attempt(environ: Mapping[str, str]) -> int | None:
    from rvrun.runners.batch.environment import attempt

    return attempt(environ)


def check(run: Run) -> Iterator[Finding]:
    from rvrun.runners.batch.check import check

    return check(run)


def risks(files: Mapping[str, str]) -> Iterator[str]:
    from rvrun.runners.batch.risks import risks

    return risks(files)


def submit(run: Run, progress: Progress) -> Ledger:
    from rvrun.runners.batch.lifecycle import submit

    return submit(run, progress)


def state(ledger: Ledger) -> RunState:
    from rvrun.runners.batch.lifecycle import state

    return state(ledger)


def targets(ledger: Ledger) -> TargetReports:
    from rvrun.runners.batch.targets import read_targets

    return read_targets(ledger)


def logs(ledger: Ledger, target: str, *, follow: bool) -> Iterator[str]:
    from rvrun.runners.batch.logs import logs

    return logs(ledger, target, follow=follow)


def cancel(ledger: Ledger, progress: Progress) -> int:
    from rvrun.runners.batch.lifecycle import cancel

    return cancel(ledger, progress)


def retry(ledger: Ledger, settings: Settings, progress: Progress) -> int:
    from rvrun.runners.batch.lifecycle import retry

    return retry(ledger, settings, progress)


def recover(run_id: str, settings: Settings, folder: pathlib.Path) -> Ledger:
    from rvrun.runners.batch.recover import recover

    return recover(run_id, settings, folder)
