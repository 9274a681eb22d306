"""`local`: a Makefile, and `make -j` on this machine.

Every function imports what it needs, so that loading the runner for its settings is cheap.
"""

from __future__ import annotations

from rvrun.runners.capabilities import Capabilities
from rvrun.settings.schema import MachineSettings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from rvrun.finding import Finding
    from rvrun.rundir.freshness import StageStatus
    from rvrun.rundir.summary import Outcome
    from rvrun.runners.run import Reporter, Run
    from rvrun.settings.schema import Settings

TITLE = "make"
SETTINGS = MachineSettings
CAPABILITIES = Capabilities(keeps_stamps=True, keeps_going=True, limits_targets=True)
TEMPLATES = ("Makefile.j2",)
OWNS = ("Makefile",)


def render(run: Run) -> dict[str, str]:
    from rvrun.runners.local.makefile import render

    return render(run)


def check_machine(settings: Settings) -> Iterator[Finding]:
    from rvrun.runners.local.check import check_machine

    return check_machine(settings)


def split_index(environ: Mapping[str, str]) -> int | None:
    """Return None: recipes name the split."""
    return None


def attempt(environ: Mapping[str, str]) -> int | None:
    """Return None: make attempts a target once."""
    return None


def run(run: Run, statuses: Sequence[StageStatus], reporter: Reporter) -> Outcome:
    from rvrun.runners.local.make import run_make

    return run_make(run, statuses, reporter)
