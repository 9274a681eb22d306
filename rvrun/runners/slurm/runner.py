"""The runner `slurm`: a plan as jobs of a cluster with Slurm.

- `render`: `jobs` turns stages into arrays, `options` gives them options of sbatch, and templates
  lay out the scripts. The jobs call make, so they need the run directory on shared storage.
- `lifecycle`: `submit` submits each job exactly once, `state` reads what became of them, `retry`
  submits the tasks of what failed. `commands` runs Slurm's commands, `queue` parses their output.
- `logs` reads what a target printed.

Every function imports what it needs, because rvrun loads every runner to know its settings.
"""

from __future__ import annotations

from rvrun.runners.capabilities import Capabilities
from rvrun.runners.slurm.settings import SlurmSettings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from rvrun.finding import Finding
    from rvrun.model import Stage
    from rvrun.plan.estimate import Hardware
    from rvrun.remote.ledger import Ledger
    from rvrun.remote.state import Progress, RunState
    from rvrun.runners.run import Run
    from rvrun.settings.schema import Settings

TITLE = "Slurm"
SETTINGS = SlurmSettings
CAPABILITIES = Capabilities(detached=True, keeps_stamps=True)
TEMPLATES = ("stage.sh.j2", "submit.sh.j2", "target.sh.j2")
OWNS = ("slurm",)


def render(run: Run) -> dict[str, str]:
    from rvrun.runners.slurm.render import render

    return render(run)


def hardware(settings: Settings, name: str, stage: Stage) -> Hardware:
    from rvrun.runners.slurm.hardware import hardware

    return hardware(settings, name, stage)


def check_machine(settings: Settings) -> Iterator[Finding]:
    from rvrun.runners.slurm.check import check_machine

    return check_machine(settings)


def split_index(environ: Mapping[str, str]) -> int | None:
    from rvrun.runners.slurm.environment import split_index

    return split_index(environ)


def attempt(environ: Mapping[str, str]) -> int | None:
    from rvrun.runners.slurm.environment import attempt

    return attempt(environ)


def check(run: Run) -> Iterator[Finding]:
    from rvrun.runners.slurm.check import check

    return check(run)


def risks(files: Mapping[str, str]) -> Iterator[str]:
    return iter(())


def submit(run: Run, progress: Progress) -> Ledger | None:
    from rvrun.runners.slurm.lifecycle import submit

    return submit(run, progress)


def state(ledger: Ledger) -> RunState:
    from rvrun.runners.slurm.lifecycle import state

    return state(ledger)


def logs(ledger: Ledger, target: str, *, follow: bool) -> Iterator[str]:
    from rvrun.runners.slurm.logs import logs

    return logs(ledger, target, follow=follow)


def cancel(ledger: Ledger, progress: Progress) -> int:
    from rvrun.runners.slurm.lifecycle import cancel

    return cancel(ledger, progress)


def retry(ledger: Ledger, settings: Settings, progress: Progress) -> int:
    from rvrun.runners.slurm.lifecycle import retry

    return retry(ledger, settings, progress)
