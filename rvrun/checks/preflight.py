"""What would fail when a config is run, found before that: findings, each with its mend.

machine     Python, make, the shell, CPUs, GPUs
settings    the runner, settings, templates
config      loaded here, and in a process of its own as each target does; compiled; rendered
places      the run directory, root URIs

A check is a function from a `Case` to findings. What several of them need the case makes, once.
Where it cannot, the check of that very thing tells why, and those that need it find nothing.
"""

from __future__ import annotations

import fcntl
import functools
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import resources
from typing import TypeVar

import attrs

from rvrun import __version__, paths
from rvrun.aws.storage import scheme
from rvrun.errors import RvrunError, UnknownName, UserCodeError
from rvrun.finding import Finding, error, ok, warning
from rvrun.load.source import LoadedPipeline, load
from rvrun.model import Plan
from rvrun.pipelines.imports import CannotImport
from rvrun.plan.compile import compile_plan, idle_splits
from rvrun.plan.splits import BadSplits, parse_splits
from rvrun.render.files import render_common, to_text
from rvrun.runners.local.runner import num_cpus
from rvrun.runners.problems import Unfit, gathered
from rvrun.runners.protocol import Remote, Run, Runner, as_remote, find_runner, runner_names
from rvrun.settings.schema import PROFILE, Settings, load_settings, options, variable
from rvrun.text import count, title
from rvrun.worker import gpu_slots as gpu
from rvrun.worker.target import INTERNAL, user_frames

T = TypeVar("T")

LOCAL, INPROCESS = "local", "inprocess"
OLDEST_MAKE = (3, 81)
SHELL = "/bin/sh"
#: How long `make --version` may take, in seconds.
PATIENCE = 10
#: A rendered file is first written under a longer name: `.NAME.` and a process's id.
NAME_EXTRA = 10
#: What each target does before its command. Given the path of a saved config.
BUILD = """
import sys
from rvrun.worker import target as worker
try:
    with worker.built(worker.read_document(sys.argv[1]), sys.argv[1]):
        pass
except worker.RvrunError as error:
    worker.print_error(error)
    sys.exit(error.exit_code)
except BaseException as error:
    worker.print_traceback(error.with_traceback(error.__traceback__.tb_next))
    sys.exit(1)
"""


@attrs.frozen(kw_only=True)
class Asked:
    """What is to be checked, as typed; without a config the machine and the settings alone.

    - `out`: the run directory, relative to the current one; None where no config names it.
    """

    config: str | None = None
    commands: Sequence[str] = ()
    splits: Sequence[str] = ()
    args: Mapping[str, str] = attrs.field(factory=dict)
    runner: str = LOCAL
    out: str | None = None
    flags: Mapping[str, object] = attrs.field(factory=dict)
    profile: str | None = None


@attrs.frozen(slots=False)
class Case:
    """What is checked. Each part is made once, or is the error that says why it cannot be.

    None stands for what was not asked for, and for what lacks a part that it is made of.
    """

    asked: Asked

    @property
    def is_local(self) -> bool:
        return self.asked.runner == LOCAL

    @functools.cached_property
    def runner(self) -> Runner | RvrunError:
        return attempt(lambda: find_runner(self.asked.runner))

    @functools.cached_property
    def settings(self) -> Settings | RvrunError:
        return attempt(lambda: load_settings(self.asked.flags, self.asked.profile))

    @functools.cached_property
    def pipelines(self) -> list[LoadedPipeline] | RvrunError | None:
        asked = self.asked
        if asked.config is None or isinstance(self.runner, RvrunError):
            return None
        source = asked.config
        return attempt(lambda: load(source, asked.runner, asked.args))

    @functools.cached_property
    def loaded(self) -> list[LoadedPipeline]:
        """The pipelines, none where they could not be loaded."""
        return self.pipelines if isinstance(self.pipelines, list) else []

    @functools.cached_property
    def plan(self) -> Plan | RvrunError | None:
        if not self.loaded:
            return None
        declared = [pipeline.declared for pipeline in self.loaded]
        return attempt(
            lambda: compile_plan(declared, self.asked.commands, parse_splits(self.asked.splits))
        )

    @functools.cached_property
    def remote(self) -> Remote | None:
        """The runner, if its jobs run on other machines."""
        return None if isinstance(self.runner, RvrunError) else as_remote(self.runner)

    @functools.cached_property
    def run(self) -> Run | None:
        """What the runner would be given."""
        plan, settings, out = self.plan, self.settings, self.asked.out
        if not isinstance(plan, Plan) or isinstance(settings, RvrunError) or out is None:
            return None
        return Run(plan=plan, pipelines=tuple(self.loaded), out=out, settings=settings)

    @functools.cached_property
    def files(self) -> Mapping[str, str] | RvrunError | None:
        """What would be written into the run directory."""
        run, runner = self.run, self.runner
        if run is None or isinstance(runner, RvrunError):
            return None
        return attempt(lambda: {**render_common(run.plan, self.loaded), **runner.render(run)})


def attempt(function: Callable[[], T]) -> T | RvrunError:
    """What `function` gives, or the error of the user's input that it raises."""
    try:
        return function()
    except RvrunError as problem:
        return problem


def check(asked: Asked) -> list[Finding]:
    """All findings of all checks, in their order."""
    case = Case(asked)
    return [finding for each in CHECKS for finding in each(case)]


def check_python(case: Case) -> Iterator[Finding]:
    """Which Python and which rvrun this is."""
    version = ".".join(map(str, sys.version_info[:3]))
    yield ok("python", f"{version} ({sys.executable})")
    yield ok("rvrun", f"{__version__} ({os.path.dirname(os.path.dirname(__file__))})")


def check_program(case: Case) -> Iterator[Finding]:
    """A Makefile calls `rvrun` by that name, unless told otherwise."""
    if case.is_local and shutil.which("rvrun") is None and "RVRUN" not in os.environ:
        text = "not on PATH: `rvrun run local` works, `make` typed by hand does not"
        mend = f"add {os.path.dirname(sys.executable)} to PATH"
        yield warning("rvrun", text, f"{mend}, or type make RVRUN='{sys.executable} -P -m rvrun'")


def check_runner(case: Case) -> Iterator[Finding]:
    """There is such a runner."""
    if isinstance(case.runner, RvrunError):
        known = " or ".join(f"--runner {name}" for name in runner_names())
        yield error("runner", case.runner, f"type {known}")
    else:
        yield ok("runner", case.asked.runner)


def check_make(case: Case) -> Iterator[Finding]:
    """make is on PATH, is GNU make, and knows what the Makefile needs."""
    if not case.is_local:
        return
    make = shutil.which("make")
    install = "install GNU make: `apt-get install make`, or `xcode-select --install`"
    if make is None:
        other = "use --runner inprocess"
        yield error("make", "not found on PATH", f"{_have_gmake() or install}, or {other}")
        return
    line = _first_line(make)
    version = re.match(r"GNU Make (?:version )?(\d+)\.(\d+)", line)
    if version is None:
        said = f"`make --version` says: {line}" if line else "`make --version` says nothing"
        yield error("make", f"{make} is not GNU make; {said}", _have_gmake() or install)
    elif tuple(map(int, version.groups())) < OLDEST_MAKE:
        oldest = ".".join(map(str, OLDEST_MAKE))
        mend = _have_gmake() or f"install GNU Make {oldest} or newer, first on PATH"
        yield error("make", f"{line} ({make}) is older than {oldest}", mend)
    else:
        yield ok("make", f"{line} ({make})")


def _have_gmake() -> str:
    """Where GNU make is there under its other name, the way to use it."""
    gmake = shutil.which("gmake")
    link = f"mkdir -p ~/bin && ln -s {gmake} ~/bin/make && export PATH=~/bin:$PATH"
    return f"GNU make is here as gmake: `{link}`" if gmake else ""


def _first_line(make: str) -> str:
    """What `make --version` says first, on whichever stream."""
    try:
        done = subprocess.run(
            [make, "--version"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=PATIENCE,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as problem:
        return f"{type(problem).__name__}: {problem}"
    lines = done.stdout.decode(errors="replace").split("\n")
    return next((line.strip() for line in lines if line.strip()), "")


def check_shell(case: Case) -> Iterator[Finding]:
    """Recipes are run by a shell."""
    if not case.is_local:
        return
    if os.access(SHELL, os.X_OK):
        yield ok("shell", SHELL)
    else:
        mend = f"install a shell there, for example `ln -s $(command -v bash) {SHELL}`"
        yield error("shell", f"there is no {SHELL}, by which make runs recipes", mend)


def check_settings(case: Case) -> Iterator[Finding]:
    """All layers of settings can be read; those set, and by whom."""
    if isinstance(case.settings, RvrunError):
        yield error("settings", case.settings, _mend_settings(case.settings))
        return
    found = options(case.asked.flags, case.asked.profile)
    given = [option for option in found if option.origin != "default"]
    shown = ", ".join(f"{each.key} = {_shown(each.value)} ({each.origin})" for each in given)
    yield ok("settings", shown or "all as by default")


def _shown(value: object) -> str:
    return ",".join(value) if isinstance(value, tuple) else str(value)


def _mend_settings(problem: RvrunError) -> str:
    match problem:
        case UnknownName(kind="environment variable", name=name):
            return f"unset {name}, or give it a name that is known"
        case UnknownName(name=name, place=place):
            return f"take `{name}` out of {place}, or give it a name that is known"
    place = getattr(problem, "origin", "")
    if place.startswith("profile "):
        return f"write that file, or leave out --profile and {PROFILE}"
    return f"change it in {place}" if os.path.exists(place) else f"change {place}"


def check_templates(case: Case) -> Iterator[Finding]:
    """The folder of templates is there, and has one that replaces one of rvrun's."""
    settings = case.settings
    if isinstance(settings, RvrunError) or settings.templates is None:
        return
    folder = pathlib.Path(settings.templates)
    change = f"change --templates or the setting `templates` ({variable('templates')})"
    if not folder.is_dir():
        yield error("templates", f"there is no folder {folder}", change)
        return
    folders = [each for each in resources.files("rvrun.templates").iterdir() if each.is_dir()]
    names = {each.name for runner in folders for each in runner.iterdir()}
    own = sorted(name for name in names if name.endswith(".j2"))
    used = [name for name in own if (folder / name).is_file()]
    if used:
        yield ok("templates", f"{', '.join(used)} of {folder}")
    else:
        text = f"{folder} has none that replaces one of rvrun's ({', '.join(own)})"
        yield warning("templates", text, f"write {folder / own[0]}, or {change}")


def check_jobs(case: Case) -> Iterator[Finding]:
    """How many targets run at once."""
    if isinstance(case.settings, RvrunError) or not case.is_local:
        return
    jobs, cpus = case.settings.local.jobs, num_cpus()
    at_once = count(jobs or cpus, "target")
    yield ok("jobs", f"{at_once} at once on {count(cpus, 'CPU')}")


def check_gpus(case: Case) -> Iterator[Finding]:
    """GPUs are there for those who want them, with slots that can be locked."""
    settings = case.settings
    if isinstance(settings, RvrunError) or case.remote is not None:
        return
    local, found = settings.local, gpu.find_gpus()
    devices = list(local.gpus) or found
    slots = local.gpu_slots or max(len(devices), 1)
    wanting = _gpu_commands(case)
    at_once = f"{count(slots, 'GPU target')} at once"
    listed = f"{count(len(found), 'GPU')} found"
    if wanting and (problem := _locks_problem(local.gpu_locks)):
        mend = f"name another with the setting `local.gpu_locks` ({variable('local.gpu_locks')})"
        yield error("gpus", f"the slots' lock files cannot be written: {problem}", mend)
    elif wanting and not devices:
        mend = f"run where `nvidia-smi -L` lists one, or name one: {variable('local.gpus')}=0"
        yield warning("gpus", f"none found, wanted by {', '.join(wanting)}", mend)
    else:
        places = f" on {', '.join(devices)}" if devices else ""
        yield ok("gpus", f"{listed}; {at_once}{places}")


def _gpu_commands(case: Case) -> list[str]:
    return [
        f"{pipeline.name}/{command.name}"
        for pipeline in case.loaded
        for command in pipeline.declared.commands
        if command.gpu
    ]


def _locks_problem(folder: str | None) -> str:
    own = os.path.join(tempfile.gettempdir(), f"rvrun-gpu-{os.getuid()}")
    return folder_problem(pathlib.Path(folder or own))


def check_config(case: Case) -> Iterator[Finding]:
    """The config can be loaded, and its pipelines built."""
    match case.pipelines:
        case RvrunError() as problem:
            yield error("config", problem, _mend_config(problem, case.asked), _details(problem))
        case list() as loaded:
            names = ", ".join(pipeline.name for pipeline in loaded)
            yield ok("config", f"{case.asked.config}: {count(len(loaded), 'pipeline')}, {names}")


def _mend_config(problem: RvrunError, asked: Asked) -> str:
    missing = problem.__cause__
    if isinstance(missing, ModuleNotFoundError):
        return f"install `{missing.name}` for {sys.executable}, or add its folder to PYTHONPATH"
    match problem:
        case UserCodeError():
            return "change your code where its traceback points"
        case CannotImport():
            return f"name a file, or a module that {sys.executable} can import from here"
        case UnknownName(kind="argument", name=name):
            return f"take -a {name} out, or give it a name that is known"
    wrong_args = type(problem).__name__ == "BadArgument"
    return "change the -a arguments" if wrong_args else f"change {asked.config}"


def _details(problem: RvrunError) -> str:
    """The traceback of the user's code that raised, from their first frame on."""
    cause = problem.__cause__
    if not isinstance(problem, UserCodeError) or cause is None:
        return ""
    frames = user_frames(cause.__traceback__)
    return "".join(traceback.format_exception(type(cause), cause, frames))


def check_plan(case: Case) -> Iterator[Finding]:
    """Names, needs, selection and splits fit together; no split is idle."""
    plan = case.plan
    if isinstance(plan, RvrunError):
        yield error("plan", plan, _mend_plan(plan))
    elif plan is not None:
        yield ok("plan", title(plan))
        declared = [pipeline.declared for pipeline in case.loaded]
        for text in idle_splits(declared, plan):
            yield warning("splits", text, "give a lower number with --splits")


def _mend_plan(problem: RvrunError) -> str:
    if isinstance(problem, BadSplits) or "--splits" in str(problem):
        return "change --splits"
    if isinstance(problem, UnknownName):
        return f"type one of: {' '.join(problem.known)}"
    return "change names, `commands` or `needs` in the pipeline's class or config"


def check_files(case: Case) -> Iterator[Finding]:
    """The runner can render the plan with these settings, into files that can be named so."""
    files = case.files
    if isinstance(files, Unfit):
        for finding in gathered(files.findings):
            yield error(files.runner, finding, "change what it names")
    elif isinstance(files, RvrunError):
        yield error("files", files, "change what it names")
    elif files is not None and case.asked.out is not None:
        longest = max((pathlib.PurePath(path).name for path in files), key=_num_bytes)
        limit = os.pathconf(_nearest(pathlib.Path(case.asked.out)), "PC_NAME_MAX")
        if _num_bytes(longest) + NAME_EXTRA > limit:
            text = f"the file system has names of {limit} bytes at most, too few for {longest}"
            yield error("files", text, "give the pipeline a shorter `name`")
        else:
            yield ok("files", f"{count(len(files), 'file')} rendered")


def check_aws(case: Case) -> Iterator[Finding]:
    """AWS would take what is rendered; asked only where there is something to take."""
    if case.remote is not None and case.run is not None and isinstance(case.files, Mapping):
        yield from case.remote.examine(case.run)


def _num_bytes(name: str) -> int:
    return len(os.fsencode(name))


def check_targets(case: Case) -> Iterator[Finding]:
    """Each target's own process, which calls no `get_config`, can build its pipeline too."""
    if case.asked.runner == INPROCESS or not case.loaded:
        return
    seconds = []
    for pipeline in case.loaded:
        start = time.perf_counter()
        done = _build(pipeline)
        if done.returncode == 0:
            seconds.append(time.perf_counter() - start)
        else:
            yield _cannot_start(pipeline.name, done)
    if seconds:
        yield ok("targets", f"in its own process each builds its pipeline; {_took(seconds)}")


def _took(seconds: Sequence[float]) -> str:
    least, most = (round(each(seconds) * 1000) for each in (min, max))
    return f"starting takes {most} ms" if least == most else f"starting takes {least} to {most} ms"


def _build(pipeline: LoadedPipeline) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name not in INTERNAL}
    with tempfile.NamedTemporaryFile("w", suffix=".json", encoding="utf-8") as document:
        document.write(to_text(pipeline.document))
        document.flush()
        return subprocess.run(
            # As the Makefile's recipe starts one; see `runners.local`.
            [sys.executable, "-P", "-c", BUILD, document.name],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )


def _cannot_start(name: str, done: subprocess.CompletedProcess[str]) -> Finding:
    said = done.stderr.rstrip()
    last = said.rpartition("\n")[2].removeprefix("rvrun: ") or f"exit code {done.returncode}"
    mend = (
        "targets import the config's module but call no `get_config`: do at the module's top what "
        "they need too (`sys.path`, imports), or make it importable with PYTHONPATH"
    )
    text = f"in a process of its own {name} cannot be built: {last}"
    return error("targets", text, mend, f"{said}\n" if "\n" in said else "")


def check_run_dir(case: Case) -> Iterator[Finding]:
    """The run directory is there or can be made, can be written and locked, and is free."""
    if case.asked.out is None:
        return
    folder = pathlib.Path(case.asked.out)
    another = "name another with --out"
    if problem := folder_problem(folder, lock=True):
        yield error("run dir", f"{folder} cannot be used: {problem}", another)
    elif (folder / paths.MAKEFILE).exists() and not (folder / paths.PLAN).exists():
        yield error("run dir", f"{folder} has a Makefile that rvrun did not write", another)
    elif holder := _holder(folder / paths.LOCK):
        text = f"{folder} is in use: another rvrun (process {holder}) is running in it"
        yield error("run dir", text, f"wait until that ends, or {another}")
    else:
        yield ok("run dir", f"{folder} {'can be written' if folder.exists() else 'can be made'}")


def _holder(lock: pathlib.Path) -> str:
    """The process that runs in a run directory; empty if none.

    A shared lock, so that two checks do not take each other for a run.
    """
    try:
        with lock.open(encoding="utf-8") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return file.read().strip() or "unknown"
    except OSError:
        pass
    return ""


def check_root_uris(case: Case) -> Iterator[Finding]:
    """What each pipeline's files are written below can be read and written, as far as is seen."""
    for pipeline in case.loaded:
        root = pipeline.root_uri
        name = f"{pipeline.name}: {root or '.'}"
        if place := scheme(root):
            if case.remote is not None:
                continue
            text = f"{name} is not checked: {place} is for the pipeline's own code to reach"
            mend = f"see that its commands can read and write {place} from here, or use a path"
            yield warning("root_uri", text, mend)
        elif problem := folder_problem(pathlib.Path(root)):
            mend = f"change `root_uri` in {case.asked.config}, or make it a folder you can write"
            yield error("root_uri", f"{name} cannot be used: {problem}", mend)
        else:
            there = os.path.exists(root or ".")
            yield ok("root_uri", f"{name} {'can be read and written' if there else 'can be made'}")


def check_shared_roots(case: Case) -> Iterator[Finding]:
    """No two pipelines write below the same root."""
    users: dict[str, list[LoadedPipeline]] = {}
    for pipeline in case.loaded:
        root = pipeline.root_uri
        place = root.rstrip("/") if scheme(root) else os.path.realpath(root)
        users.setdefault(place, []).append(pipeline)
    for pipelines in users.values():
        if len(pipelines) > 1:
            names = ", ".join(pipeline.name for pipeline in pipelines)
            root = pipelines[0].root_uri
            text = f"{names} share {root} and may overwrite each other's files"
            yield warning("root_uri", text, f"give each its own, such as {root.rstrip('/')}/NAME")


def folder_problem(folder: pathlib.Path, *, lock: bool = False) -> str:
    """Why `folder` cannot be read and written, or made where it is not there; empty if it can.

    Tried with a file without a name in it, or in the nearest folder above; so it leaves nothing.
    """
    there = _nearest(folder)
    if not there.is_dir():
        return f"{there} is a file" if there.is_file() else f"{there} is no folder"
    if not os.access(there, os.R_OK | os.W_OK | os.X_OK):
        return f"{there} cannot be read and written by you"
    try:
        with tempfile.TemporaryFile(dir=there) as file:
            file.write(b"x")
            file.flush()
            if lock:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as problem:
        return (
            f"in {there} no file can be written{' and locked' if lock else ''}: {problem.strerror}"
        )
    return ""


def _nearest(path: pathlib.Path) -> pathlib.Path:
    """`path`, or the first above it that is there, if only as a link that leads nowhere."""
    full = pathlib.Path(os.path.abspath(path))
    found = next(each for each in (full, *full.parents) if os.path.lexists(each))
    return path if found == full else found


CHECKS: tuple[Callable[[Case], Iterator[Finding]], ...] = (
    check_python,
    check_program,
    check_runner,
    check_make,
    check_shell,
    check_settings,
    check_templates,
    check_jobs,
    check_gpus,
    check_config,
    check_plan,
    check_files,
    check_aws,
    check_targets,
    check_run_dir,
    check_root_uris,
    check_shared_roots,
)
