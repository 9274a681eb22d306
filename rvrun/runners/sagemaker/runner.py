"""`sagemaker`: runs on SageMaker Pipelines.

    plan -> steps -> definition -> files -> submit -> state, logs, cancel, retry

`render` does this up to the files, which is pure; `machine` gives each step its settings,
`functions` are what SageMaker evaluates, and `quota` and `validate` check the result offline.
`submit`, `cancel` and `retry` change something in SageMaker through `calls`, which puts `events`
into the run's ledger. `check` asks AWS before a run, with `permissions` and `instance_quotas`;
`hosts` runs inside of jobs.

Every function imports what it needs, so that loading the runner for its settings is cheap.
"""

from __future__ import annotations

from rvrun.runners.capabilities import Capabilities
from rvrun.runners.sagemaker.settings import SagemakerSettings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from rvrun.finding import Finding
    from rvrun.model import Stage
    from rvrun.plan.estimate import Hardware
    from rvrun.remote.ledger import Ledger
    from rvrun.remote.state import Progress, RunState, TargetReports
    from rvrun.runners.run import Run
    from rvrun.settings.schema import Settings
    from rvrun.worker.torchrun import Hosts

TITLE = "SageMaker Pipelines"
SETTINGS = SagemakerSettings
CAPABILITIES = Capabilities(
    detached=True, needs_remote_storage=True, reports_targets=True, multi_host=True
)
TEMPLATES = ("sagemaker.json.j2",)
OWNS = ("sagemaker",)


def render(run: Run) -> dict[str, str]:
    from rvrun.runners.sagemaker.render import render

    return render(run)


def hardware(settings: Settings, name: str, stage: Stage) -> Hardware:
    from rvrun.runners.sagemaker.hardware import hardware

    return hardware(settings, name, stage)


def check_machine(settings: Settings) -> Iterator[Finding]:
    return iter(())


def split_index(environ: Mapping[str, str]) -> int | None:
    from rvrun.runners.sagemaker.hosts import read_hosts

    return read_hosts(environ).rank


def attempt(environ: Mapping[str, str]) -> int | None:
    """Return None: SageMaker does not pass the attempt to its containers."""
    return None


def check(run: Run) -> Iterator[Finding]:
    from rvrun.runners.sagemaker.check import check

    return check(run)


def risks(files: Mapping[str, str]) -> Iterator[str]:
    """Yield nothing: SageMaker retries its own failures, but not those of the command."""
    return iter(())


def submit(run: Run, progress: Progress) -> Ledger:
    from rvrun.runners.sagemaker.submit import submit

    return submit(run, progress)


def state(ledger: Ledger) -> RunState:
    from rvrun.runners.sagemaker.state import read_state

    return read_state(ledger)


def targets(ledger: Ledger) -> TargetReports:
    from rvrun.runners.sagemaker.targets import read_targets

    return read_targets(ledger)


def logs(ledger: Ledger, target: str, *, follow: bool) -> Iterator[str]:
    from rvrun.runners.sagemaker.logs import logs

    return logs(ledger, target, follow=follow)


def cancel(ledger: Ledger, progress: Progress) -> int:
    from rvrun.runners.sagemaker.cancel import cancel

    return cancel(ledger, progress)


def retry(ledger: Ledger, settings: Settings, progress: Progress) -> int:
    from rvrun.runners.sagemaker.retry import retry

    return retry(ledger, progress)


def hosts(environ: Mapping[str, str]) -> Hosts:
    from rvrun.runners.sagemaker.hosts import read_hosts

    return read_hosts(environ)
