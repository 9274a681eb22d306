"""`rvrun logs`: what targets printed, or the ends of the logs of those that failed."""

from __future__ import annotations

import collections
import pathlib
import shlex
from typing import Annotated

from rvrun.cli.messages import say
from rvrun.cli.options import BadOption, argument, candidates, option
from rvrun.cli.run_options import Runs
from rvrun.cli.summary import LOG_LINES, NUM_FAILURES
from rvrun.errors import RvrunError
from rvrun.observe.find import Run, find_run
from rvrun.remote import ledger as ledgers
from rvrun.remote.ledger import LATEST, NoRun
from rvrun.remote.state import RemoteFailure
from rvrun.rundir.exits import describe_exit
from rvrun.text import shorten

OptionalRun = Annotated[
    str | None,
    argument(
        metavar="[RUN]",
        help="A run, as in `rvrun status`; default: @latest.",
        autocompletion=candidates("runs"),
    ),
]
Target = Annotated[
    str | None,
    argument(
        metavar="[TARGET]",
        help="`tiny/train`, or one split, `tiny/predict/3`; default: the targets that failed.",
        autocompletion=candidates("targets of a run"),
    ),
]
Follow = Annotated[
    bool, option("-f", "--follow", help="Follow the log until the target has ended.")
]


def logs(
    run: OptionalRun = None,
    target: Target = None,
    follow: Follow = False,
    runs: Runs = ledgers.RUNS,
) -> None:
    """Print the output of a target, or of the targets that failed.

    That is the output of its last attempt. Of a target that failed, the last lines are printed,
    unless it is named.

    - `rvrun logs landcover/train`
    - `rvrun logs @latest landcover/chip/3 -f`
    - `rvrun logs`
    """
    observed, target = choose(run, target, pathlib.Path(runs))
    if target is None:
        if follow:
            raise BadOption("--follow requires a target, such as `rvrun logs tiny/train --follow`")
        print_failures(observed)
        return
    for line in observed.logs(target, follow=follow):
        print(line, flush=follow)


def choose(run: str | None, target: str | None, root: pathlib.Path) -> tuple[Run, str | None]:
    """Return the run and the target that one or two words name: one word may be either of them."""
    if run is None:
        return find_run(LATEST, root), None
    if target is not None:
        return find_run(run, root), target
    try:
        return find_run(run, root), None
    except NoRun as error:
        # An id has no slash, and a target always has one.
        if "/" not in run:
            raise suggesting_stage(error, run, root) from None
    return find_run(LATEST, root), run


def suggesting_stage(error: NoRun, word: str, root: pathlib.Path) -> NoRun:
    """Return `error`, with the stage that was meant if `word` is a command of the latest run."""
    from rvrun.observe.snapshot import read_saved_plan
    from rvrun.plan.select import stages_of

    try:
        stages = stages_of(read_saved_plan(find_run(LATEST, root).run_dir), word)
    except RvrunError:
        # Not even a plan to look at: the first problem is the one to show.
        return error
    name = shorten(word)
    return NoRun(f"no run `{name}`; did you mean the stage `{stages[0]}`?") if stages else error


def print_failures(run: Run) -> None:
    """Print the last lines of each target that failed, each with a heading."""
    state = run.state()
    if state.failure is None:
        say(
            f"nothing failed in {state.run_id}, which is {state.word}; name a target to see its log"
        )
        return
    failures = [state.failure, *state.other_failures]
    for failure in failures[:NUM_FAILURES]:
        print(f"── {describe(failure)}")
        for line in log_end(run, failure.target):
            print(line)
    if len(failures) > NUM_FAILURES:
        handle = shlex.quote(run.handle)
        say(f"… and {len(failures) - NUM_FAILURES:,} more; see `rvrun status {handle} --json`")


#: What container runtimes say if an image does not have the worker.
_NO_RVRUN = '"rvrun": executable file not found'


def describe(failure: RemoteFailure) -> str:
    """Return which target failed and how: `tiny/sum (exit 1): failed after 2.0 s`."""
    code = "" if failure.exit_code is None else f" ({describe_exit(failure.exit_code, None)})"
    hint = "; install rvrun in the image of its job" if _NO_RVRUN in failure.reason else ""
    return f"{failure.target}{code}" + (f": {failure.reason}{hint}" if failure.reason else "")


def log_end(run: Run, target: str) -> list[str]:
    """Return the last lines of a target's log, or why there is none."""
    try:
        # A log may be larger than the memory.
        return list(collections.deque(run.logs(target, follow=False), maxlen=LOG_LINES))
    except RvrunError as error:
        return [f"(no log: {error})"]
