"""From a request to rendered files, a stage per line. Only `Prepared.write` writes.

load      the user's source → declared pipelines          runs the user's code
compile   declared pipelines → a plan                     pure
render    a plan → files by relative path                 pure
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import sys
from collections.abc import Callable, Mapping, Sequence

import attrs

from rvrun import paths, plugins
from rvrun.aws.storage import scheme
from rvrun.errors import Problem, RvrunError
from rvrun.load.source import load
from rvrun.model import CodeMode, Plan
from rvrun.pipelines.base import Pipeline
from rvrun.pipelines.declare import LoadedPipeline
from rvrun.pipelines.imports import restrict_to
from rvrun.plan.compile import compile_plan, idle_splits
from rvrun.plan.each import with_items
from rvrun.plan.select import find_stages, select_range
from rvrun.plan.shared_outputs import shared_outputs
from rvrun.plan.splits import parse_splits
from rvrun.render.files import render_common
from rvrun.rundir import files as rundir
from rvrun.rundir.freshness import StageStatus, plan_status
from rvrun.rundir.inputs import absent_inputs, input_fingerprints
from rvrun.rundir.needs import missing_needs
from rvrun.rundir.notices import notices
from rvrun.rundir.renewal import agree_with_files, declares_files
from rvrun.rundir.settle import settle
from rvrun.runners.protocol import Runner
from rvrun.runners.reachable import check_reachable
from rvrun.runners.registry import DEFAULT, find_runner
from rvrun.runners.run import Run
from rvrun.settings.layers import load_settings, trusted_folder
from rvrun.settings.schema import MachineSettings, Settings
from rvrun.worker.machine import misfits


class EmptyOut(RvrunError):
    """An empty `--out`."""

    template = "--out must name a directory, got an empty string"
    fix = "specify a directory with --out"


class NothingSelected(RvrunError):
    """A stage for `--until` that does not need the one for `--from`."""

    start: str
    until: str
    template = "no stage is both after `--from {start}` and before `--until {until}`"
    fix = "name a stage with --until that needs `{start}`, or omit one of the two"


class RemoteRoot(RvrunError):
    """A root with a scheme, for a pipeline on this machine that would take it for a path."""

    name: str
    root: str
    class_name: str
    template = (
        "`root_uri` of pipeline `{name}` must be a directory for a run on this machine, got "
        "`{root}`; use a path, or set `handles_uris = True` in `{class_name}` if its commands "
        "read and write such URIs"
    )
    fix = "use a path, or set `handles_uris = True` in `{class_name}`"


class RemoteOut(RvrunError):
    """A run directory with a scheme, which would become a directory such as `s3:`."""

    out: str
    template = "--out must name a directory on this machine, got `{out}`; use a path"
    fix = "name a directory with --out"


class Conflict(Problem):
    """Runners that would render different files at the same path."""


@attrs.frozen(kw_only=True)
class Request:
    """What users ask for: a config, and how to plan and run it.

    - `commands`: those to run; empty for all. `splits`, `args`: as typed, `args` by key.
    - `until`, `start`: run only what these stages need, and only what needs these.
    - `forced`: stages to run although they are up to date.
    - `out`: the run directory; None for the default one.
    - `flags`: settings given on the command line, by dotted key.
    - `hashing`: shows the progress of hashing inputs, as `advance` of `data.hashes.Hashes`.
    """

    config: str
    runner: str = DEFAULT
    commands: Sequence[str] = ()
    until: Sequence[str] = ()
    start: Sequence[str] = ()
    forced: Sequence[str] = ()
    splits: Sequence[str] = ()
    args: Mapping[str, str] = attrs.field(factory=dict)
    out: str | None = None
    flags: Mapping[str, object] = attrs.field(factory=dict)
    profile: str | None = None
    keep_going: bool = False
    force: bool = False
    debug: bool = False
    name: str | None = None
    verbosity: int = 0
    hashing: Callable[[int, int], None] | None = attrs.field(default=None, eq=False, repr=False)


@attrs.frozen(kw_only=True)
class Prepared:
    """A run compiled and rendered.

    - `runners`: the names of those that the files are for, the first one's before the others.
    - `owned`: the folders of the run directory that contain nothing but `files`.
    - `warnings`: what the user may not have intended, a sentence each.
    """

    run: Run
    runner: Runner
    runners: tuple[str, ...]
    files: Mapping[str, str]
    owned: tuple[str, ...]
    warnings: tuple[str, ...] = ()

    def statuses(self) -> list[StageStatus]:
        """Return the stale targets of each stage in the run directory as it is now, and why."""
        run = self.run
        return plan_status(run.plan, run.run_dir, self.files, force=run.force, forced=run.forced)

    def missing_needs(self) -> list[str]:
        """Return a warning for each stage with needs that are neither selected nor done."""
        if not self.runner.CAPABILITIES.keeps_stamps:
            return []
        declared = [pipeline.declared for pipeline in self.run.pipelines]
        return missing_needs(declared, self.run.plan, self.run.run_dir)

    def notices(self, statuses: Sequence[StageStatus] | None = None) -> list[str]:
        """Return what to know about stamps, code, inputs and this machine before a run.

        - `statuses`: those that `statuses` returns, if they were found already.
        """
        texts = []
        if self.runner.CAPABILITIES.keeps_stamps:
            statuses = self.statuses() if statuses is None else statuses
            texts += [*notices(statuses), *absent_inputs(statuses)]
        if self.runner.CAPABILITIES.limits_targets:
            texts += misfits(self.run.plan, self.run.settings.of(MachineSettings))
        return texts

    def changes_files(self) -> bool:
        """Whether `write` would change what jobs of an earlier run in the run directory read."""
        return rundir.would_change(self.run.run_dir, self.files, self.owned)

    def write(self) -> list[str]:
        """Write the files whose text changed into the run directory, and return their paths.

        Call it with the lock of the run directory. Splits of which all items are done get their
        stamps.

        Raises `UnusableRunDir` or `OtherRunner`.
        """
        run_dir = self.run.run_dir
        rundir.check_owner(run_dir, self.files, self.runners[0], self._traces_of_others)
        has_stamps = self.runner.CAPABILITIES.keeps_stamps
        # Before writing: afterwards nobody can tell a file that was only touched.
        before = self.statuses() if has_stamps and declares_files(self.run.plan) else []
        written = rundir.write(run_dir, self.files, self.owned)
        agree_with_files(run_dir, before, self.run.workdir_from_run_dir)
        if self.run.plan.has_items and has_stamps:
            settle(run_dir, plan_status(self.run.plan, run_dir, self.files))
        return written

    def _traces_of_others(self) -> list[tuple[str, str]]:
        """Return other runners by name, with a file or folder that they leave in a run directory.

        Runners that keep stamps keep the same ones, so they continue each other's runs.
        """
        runners = {name: find_runner(name) for name in plugins.runner_names()}
        stamps = {name for name, runner in runners.items() if runner.CAPABILITIES.keeps_stamps}
        own = {*self.runners, *(stamps if stamps.intersection(self.runners) else ())}
        others = [name for name in runners if name not in own]
        # Stamps come last: they only show that it was one of several runners.
        return [
            *((name, path) for name in others for path in runners[name].OWNS),
            *((name, paths.DONE) for name in others if name in stamps),
        ]


def prepare(request: Request) -> Prepared:
    """Load, compile and render what `request` asks for."""
    prepared = prepare_plan(request)
    check_reachable(prepared.run, prepared.runner, request.runner)
    files = {**prepared.files, **prepared.runner.render(prepared.run)}
    return attrs.evolve(prepared, files=files)


def prepare_plan(request: Request) -> Prepared:
    """Prepare without the runner's own files, which is enough to show a plan."""
    runner = find_runner(request.runner)
    settings = load_settings(request.flags, request.profile)
    pipelines = load_pipelines(request, settings)
    plan = compile_pipelines(pipelines, request, CodeMode(settings.code))
    run = make_run(plan, pipelines, settings, runner, request)
    files = render_common(plan, pipelines, settings.code_packages)
    if runner.CAPABILITIES.keeps_stamps:
        files |= input_fingerprints(plan, run.run_dir, files, request.hashing)
    warnings = idle_splits([pipeline.declared for pipeline in pipelines], plan)
    warnings += shared_outputs(pipelines, plan)
    return Prepared(
        run=run,
        runner=runner,
        runners=(request.runner,),
        files=files,
        owned=runner.OWNS,
        warnings=tuple(warnings),
    )


def load_pipelines(request: Request, settings: Settings) -> tuple[LoadedPipeline, ...]:
    """Load the pipelines of the request's config, from where the settings allow."""
    restrict_to(trusted_folder(settings))
    # stdout is for what a verb prints; whatever the user's code prints while it loads is not that.
    with contextlib.redirect_stdout(sys.stderr):
        loaded = load(request.config, request.runner, request.args, verbosity=request.verbosity)
    return tuple(_with_items(pipeline, request) for pipeline in loaded)


def _with_items(pipeline: LoadedPipeline, request: Request) -> LoadedPipeline:
    """The pipeline with the items that it has with the requested numbers of splits."""
    if all(command.if_each is None for command in pipeline.declared.commands):
        return pipeline
    declared = with_items(pipeline.declared, parse_splits(request.splits))
    return attrs.evolve(pipeline, declared=declared)


def compile_pipelines(
    pipelines: Sequence[LoadedPipeline], request: Request, code: CodeMode
) -> Plan:
    """Compile pipelines to the plan that the request asks for; `code` is the setting."""
    declared = [pipeline.declared for pipeline in pipelines]
    splits = parse_splits(request.splits)
    plan = compile_plan(declared, request.commands, splits, code)
    if not (request.until or request.start):
        return plan
    selected = select_range(plan, request.until, request.start)
    if not selected:
        raise NothingSelected(", ".join(request.start), ", ".join(request.until))
    return compile_plan(declared, selected, splits, code)


def make_run(
    plan: Plan,
    pipelines: Sequence[LoadedPipeline],
    settings: Settings,
    runner: Runner,
    request: Request,
) -> Run:
    """Return what the runner gets: the plan, and everything specified about running it."""
    return Run(
        plan=plan,
        pipelines=tuple(pipelines),
        out=run_dir_of(request.config, request.out),
        settings=settings,
        keep_going=request.keep_going,
        # Without stamps nothing is known to be done, so everything selected runs.
        force=request.force or not runner.CAPABILITIES.keeps_stamps,
        forced=frozenset().union(*(find_stages(plan, n, "--force") for n in request.forced)),
        debug=request.debug,
        name=request.name,
        verbosity=request.verbosity,
        out_typed=request.out,
    )


def check_local_roots(pipelines: Sequence[LoadedPipeline], runner: Runner) -> None:
    """Raise `RemoteRoot` if a pipeline on this machine would take the URI of its root for a path.

    Other systems have file systems of their own: their adapters check that these handle the root.
    """
    if runner.CAPABILITIES.detached:
        return
    for pipeline in pipelines:
        is_ours = isinstance(pipeline.pipeline, Pipeline)
        if is_ours and scheme(pipeline.root_uri) and not pipeline.pipeline.handles_uris:
            class_name = type(pipeline.pipeline).__name__
            raise RemoteRoot(pipeline.name, pipeline.root_uri, class_name)


def render_files(run: Run, runner: Runner, name: str) -> dict[str, str]:
    """Render all files of the run directory for the runner called `name`, by relative path."""
    check_reachable(run, runner, name)
    common = render_common(run.plan, run.pipelines, run.settings.code_packages)
    return {**common, **runner.render(run)}


def prepare_all(runners: Sequence[str], request: Request) -> Prepared:
    """Prepare for several runners in one run directory; the run is the first runner's.

    Raises `Conflict` if a file differs between runners, as configs that depend on the runner do.
    """
    names = list(dict.fromkeys(runners))
    first, *others = (prepare(attrs.evolve(request, runner=name)) for name in names)
    files = dict(first.files)
    for name, other in zip(names[1:], others, strict=True):
        for path, text in other.files.items():
            if files.setdefault(path, text) != text:
                both = f"--runner {names[0]} and --runner {name}"
                raise Conflict(f"{path} differs between {both}; plan each into its own --out")
    owned = (folder for prepared in (first, *others) for folder in prepared.owned)
    return attrs.evolve(first, runners=tuple(names), files=files, owned=tuple(owned))


def kept(prepared: Prepared) -> Prepared:
    """Return a plan to keep and compare: without the configs of pipelines it does not have.

    Where something ran, such configs stay: a config that comes back must not look newer than what
    was done with it.
    """
    run_dir = prepared.run.run_dir
    if (run_dir / paths.DONE).exists() or (run_dir / paths.SUBMITTED).exists():
        return prepared
    return attrs.evolve(prepared, owned=(*prepared.owned, paths.CONFIGS, paths.CODE, paths.ITEMS))


def run_dir_of(config: str, out: str | None) -> str:
    """Return the run directory relative to the current one: `out`, else `runs/` and CONFIG's name.

    A config saved in a run directory belongs to that one. Raises `EmptyOut` or `RemoteOut`.
    """
    if out is None:
        path = pathlib.PurePath(config)
        if path.suffix == ".json" and path.parent.name == paths.CONFIGS:
            out = str(path.parent.parent)
        else:
            is_file = path.suffix in (".py", ".toml", ".json")
            out = f"runs/{path.stem if is_file else config.rpartition('.')[2]}"
    if not out:
        raise EmptyOut
    if scheme(out):
        raise RemoteOut(out)
    relative = (
        os.path.relpath(os.path.realpath(out)) if os.path.isabs(out) else os.path.normpath(out)
    )
    # A leading dash would be an option to the programs that get this path.
    return f"./{relative}" if relative.startswith("-") else relative
