"""`inprocess`: every target in this process, one after the other; for debugging.

Every function imports what it needs, so that loading the runner is cheap.
"""

from __future__ import annotations

from rvrun.runners.capabilities import Capabilities

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from rvrun.finding import Finding
    from rvrun.rundir.freshness import StageStatus
    from rvrun.rundir.summary import Outcome
    from rvrun.runners.run import Reporter, Run
    from rvrun.settings.schema import Settings

TITLE = "this process"
SETTINGS = None
CAPABILITIES = Capabilities(isolated=False, keeps_stamps=True, keeps_going=True, has_debugger=True)
TEMPLATES: tuple[str, ...] = ()
OWNS: tuple[str, ...] = ()


def render(run: Run) -> dict[str, str]:
    """Return no files: it runs the plan itself."""
    return {}


def check_machine(settings: Settings) -> Iterator[Finding]:
    return iter(())


def split_index(environ: Mapping[str, str]) -> int | None:
    """Return None: targets are called, not started."""
    return None


def attempt(environ: Mapping[str, str]) -> int | None:
    """Return None: a target is attempted once."""
    return None


def run(run: Run, statuses: Sequence[StageStatus], reporter: Reporter) -> Outcome:
    from rvrun.runners.inprocess.walk import walk

    return walk(run, statuses, reporter)
