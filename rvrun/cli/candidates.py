"""What can follow on a command line that is being typed: commands, arguments, targets, runs.

Reads sources and run directories, and runs no code of the user's. Whatever cannot be read gives no
candidates: the user is still typing, and has no use for an error.
"""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Iterator, Sequence

import typer

from rvrun import paths
from rvrun.errors import RvrunError
from rvrun.load.outline import read_outline
from rvrun.model import Plan
from rvrun.plan.serialize import plan_from_json
from rvrun.prepare import run_dir_of

#: The key in a context's `meta` of the words that were typed after the verb.
WORDS = "rvrun.words"
#: The most splits of a stage that are listed.
NUM_SPLITS = 1000


def find_candidates(kind: str, context: typer.Context, incomplete: str) -> list[str]:
    """Return the candidates of a kind, a key of `FINDERS`."""
    try:
        return list(FINDERS[kind](context, incomplete))
    except (OSError, ValueError, RvrunError):
        return []


def _commands(context: typer.Context, incomplete: str) -> Iterator[str]:
    """The commands of CONFIG, as its source shows them, or else its plan, if it was saved."""
    config = str(context.params["config"])
    chosen = context.params.get("commands") or ()
    commands: Sequence[str] = read_outline(config).commands
    if not commands:
        plan = _read_plan(pathlib.Path(run_dir_of(config, context.params.get("out"))))
        commands = [stage.command for pipeline in plan.pipelines for stage in pipeline.stages]
    yield from (name for name in dict.fromkeys(commands) if name not in chosen)


def _arguments(context: typer.Context, incomplete: str) -> Iterator[str]:
    """After `-a`, the parameters of `get_config`; after one of them, its values."""
    parameters = read_outline(str(context.params["config"])).parameters
    last = context.meta[WORDS][-1]
    yield from parameters if last in ("-a", "--arg") else parameters.get(last, ())


def _planned_targets(context: typer.Context, incomplete: str) -> Iterator[str]:
    """The targets of all run directories in runs/."""
    for path in sorted(pathlib.Path("runs").glob(f"*/{paths.PLAN}")):
        yield from _targets(_read_plan(path.parent), incomplete)


def _targets_of_run(context: typer.Context, incomplete: str) -> Iterator[str]:
    """The targets of RUN, or of the latest run; a first word may also be a run."""
    from rvrun.observe.find import find_run

    root = pathlib.Path(context.params["runs"])
    run = find_run(context.params.get("run") or "@latest", root)
    yield from _targets(_read_plan(run.run_dir), incomplete)


def _targets(plan: Plan, incomplete: str) -> Iterator[str]:
    """The stages of a plan, and the splits of the stage that `incomplete` names."""
    for pipeline in plan.pipelines:
        for stage in pipeline.stages:
            name = f"{pipeline.name}/{stage.command}"
            yield name
            if incomplete.startswith(f"{name}/"):
                yield from (
                    f"{name}/{index}" for index in range(stage.num_splits or 0)[:NUM_SPLITS]
                )


def _read_plan(run_dir: pathlib.Path) -> Plan:
    return plan_from_json((run_dir / paths.PLAN).read_text(encoding="utf-8"))


def _runs(context: typer.Context, incomplete: str) -> Iterator[str]:
    """The ids of detached runs and the run directories of others, the latest first."""
    from rvrun.observe.find import run_dirs, run_of
    from rvrun.observe.local_run import LocalRun
    from rvrun.remote import ledger

    root = pathlib.Path(context.params["runs"])
    submitted = [run.run_id for run in reversed(ledger.all_ledgers(root))]
    here = [
        run for folder in run_dirs(root, depth=1) if isinstance(run := run_of(folder), LocalRun)
    ]
    yield from (ledger.LATEST, *submitted, *(run.handle for run in here))


def _profiles(context: typer.Context, incomplete: str) -> Iterator[str]:
    from rvrun.settings.sources import profile_names

    yield from profile_names()


FINDERS: dict[str, Callable[[typer.Context, str], Iterator[str]]] = {
    "arguments": _arguments,
    "commands": _commands,
    "planned targets": _planned_targets,
    "profiles": _profiles,
    "runs": _runs,
    "targets of a run": _targets_of_run,
}
