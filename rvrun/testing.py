"""Check that a runner keeps the contract of `runners.protocol`; for the tests of its author.

    def test_conformance(tmp_path):
        check_runner("mine", tmp_path)

Everything is tried as users do it: a small pipeline is rendered, run, failed, retried and
cancelled by `rvrun` in processes of its own. For a detached runner, its service must be up.
"""

from __future__ import annotations

import inspect
import json
import os
import pathlib
import re
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import attrs

from rvrun import paths, plugins
from rvrun.errors import DONE, FAILED, INVALID
from rvrun.remote.state import OVER
from rvrun.runners import protocol
from rvrun.runners.capabilities import Capabilities
from rvrun.runners.protocol import Runner
from rvrun.runners.registry import find_runner

#: The environment variables that an engine sets for job `index` of `size`.
JobEnvironment = Callable[[int, int], Mapping[str, str]]

NUM_SPLITS = 3
PIPELINE = """
import os
import time

import rvrun


class ConformanceConfig(rvrun.PipelineConfig):
    fail: bool = False
    seconds: float = 0.0

    def build(self):
        return Conformance(self)


class Conformance(rvrun.Pipeline):
    commands = ("first", "part", "match", "last", "later", "alone")
    split_commands = ("part", "match")
    needs = {
        "part": ["first"],
        "match": [rvrun.aligned("part")],
        "last": ["match"],
        "later": [],
        "alone": ["later"],
    }

    def report(self, target):
        print(f"ran {target} pid {os.getpid()}", flush=True)
        time.sleep(self.config.seconds)

    def first(self):
        self.report("first")

    def part(self, split_ind, num_splits):
        self.report(f"part {split_ind} of {num_splits}")
        if self.config.fail and split_ind == 1:
            raise RuntimeError("fails as configured")

    def match(self, split_ind, num_splits):
        self.report(f"match {split_ind} of {num_splits}")

    def last(self):
        self.report("last")

    def later(self):
        self.report("later")
        # Runs on while a part fails, so that `alone` is ready only after that.
        time.sleep(1.5 if self.config.fail else 0)

    def alone(self):
        self.report("alone")


def get_config(runner, root_uri, fail=False, seconds=0.0):
    return ConformanceConfig(root_uri=root_uri, fail=fail, seconds=seconds)
"""
#: Runs the pipeline without the command line, which would refuse what is not declared.
DIRECT = """
import sys

from rvrun.prepare import Request, prepare
from rvrun.rundir.files import write


class Silent:
    def begin(self, statuses): pass
    def started(self, target): pass
    def ended(self, target, exit_code): pass
    def noted(self, text): pass
    def finish(self): pass


runner, root_uri, out, options = sys.argv[1:]
args = {"root_uri": root_uri, "fail": "true"}
flags = dict.fromkeys(options.split(","), True)
prepared = prepare(
    Request(
        config="conformance.py", runner=runner, args=args, splits=("3",), out=out, **flags
    )
)
write(prepared.run.run_dir, prepared.files)
prepared.runner.run(prepared.run, prepared.statuses(), Silent())
"""
_RAN = re.compile(r"^ran (\w+)(?: (\d+) of (\d+))? pid (\d+)$", re.MULTILINE)


def check_runner(
    name: str,
    folder: pathlib.Path,
    *,
    root_uri: str = "out",
    settings: str = "",
    environ: Mapping[str, str] | None = None,
    job_environ: JobEnvironment | None = None,
    timeout: float = 120.0,
) -> None:
    """Check the runner that is installed as `name`; raise AssertionError with what is wrong.

    - `folder`: an empty folder to work in.
    - `root_uri`: where the pipeline's `root_uri` is; a remote URI if the runner needs one.
    - `settings`: the content of `rvrun.toml` with which the runner works.
    - `environ`: variables on top of this process's.
    - `job_environ`: the variables from which a job gets its index; for detached runners.
    - `timeout`: seconds that a run of the pipeline may take.
    """
    runner = find_runner(name)
    site = _Site(name, runner, folder, root_uri, dict(environ or {}), job_environ, timeout)
    site.write("conformance.py", PIPELINE)
    site.write("rvrun.toml", settings)
    check_contract(runner)
    check_settings(site, settings)
    check_rendering(site)
    check_storage(site)
    check_templates(site)
    if runner.CAPABILITIES.detached:
        check_jobs(site)
        check_detached_run(site)
        check_retry(site)
        check_cancel(site)
    else:
        check_run(site)
        check_failure(site)
        check_debugger(site)


@attrs.frozen
class _Site:
    """A folder with the pipeline, and ways to use rvrun in it."""

    name: str
    runner: Runner
    folder: pathlib.Path
    root_uri: str
    environ: Mapping[str, str]
    job_environ: JobEnvironment | None
    timeout: float

    @property
    def capabilities(self) -> Capabilities:
        return self.runner.CAPABILITIES

    @property
    def config(self) -> list[str]:
        """The words that name the pipeline, its root and its splits."""
        splits = ["--splits", str(NUM_SPLITS)]
        return ["conformance.py", "-a", "root_uri", self.root_uri, *splits]

    def write(self, path: str, text: str) -> None:
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")

    def rvrun(
        self, *words: str, code: int | None = DONE, environ: Mapping[str, str] | None = None
    ) -> _Done:
        """Run rvrun; its exit code must be `code`, unless that is None."""
        done = self.start("-m", "rvrun", *words, environ=environ)
        output = f"`rvrun {' '.join(words)}` ended with {done.code}:\n{done.stdout}{done.stderr}"
        assert code is None or done.code == code, f"{output}expected exit code {code}"
        return done

    def start(self, *words: str, environ: Mapping[str, str] | None = None) -> _Done:
        """Run Python with `words` to its end."""
        process = subprocess.Popen(
            [sys.executable, "-P", *words],
            cwd=self.folder,
            env={**os.environ, **self.environ, **(environ or {})},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        # What the debugger reads, if it is entered.
        stdout, stderr = process.communicate("quit\n", timeout=self.timeout)
        return _Done(process.pid, process.returncode, stdout, stderr)

    def files(self, folder: str) -> dict[str, bytes]:
        """The files below a folder, except those that runs leave there."""
        top = self.folder / folder
        files = (path.relative_to(top) for path in top.rglob("*") if path.is_file())
        rendered = (path for path in files if path.parts[0] not in ("records", ".lock"))
        return {path.as_posix(): (top / path).read_bytes() for path in rendered}


@attrs.frozen
class _Done:
    """How a process of rvrun ended."""

    pid: int
    code: int
    stdout: str
    stderr: str


def check_contract(runner: Runner) -> None:
    """Check that the module has all constants and functions of its protocol, as declared there."""
    for contract in _protocols(runner):
        for name, member in vars(contract).items():
            if name.startswith("_"):
                continue
            assert hasattr(runner, name), f"the runner has no `{name}`"
            if inspect.isfunction(member):
                expected = list(inspect.signature(member).parameters.values())[1:]
                actual = list(inspect.signature(getattr(runner, name)).parameters.values())
                shapes = [[(p.name, p.kind) for p in params] for params in (expected, actual)]
                assert shapes[0] == shapes[1], f"`{name}` must take {_shown(expected)}"
    assert isinstance(runner.CAPABILITIES, Capabilities), "CAPABILITIES must be a Capabilities"
    assert isinstance(runner.TITLE, str) and runner.TITLE, "TITLE must be a string"  # noqa: PT018
    for name in ("TEMPLATES", "OWNS"):
        value = getattr(runner, name)
        is_names = isinstance(value, tuple) and all(isinstance(item, str) for item in value)
        assert is_names, f"{name} must be a tuple of strings, got {value!r}"


def _protocols(runner: Runner) -> list[type]:
    """The protocols that the runner's capabilities commit it to."""
    own: list[type] = [protocol.LocalRunner]
    if runner.CAPABILITIES.detached:
        own = [protocol.DetachedRunner]
    if runner.CAPABILITIES.recovers:
        own.append(protocol.RecoveringRunner)
    if runner.CAPABILITIES.reports_targets:
        own.append(protocol.ReportingRunner)
    if runner.CAPABILITIES.multi_host:
        own.append(protocol.MultiHostRunner)
    return [protocol.Runner, *own]


def _shown(parameters: list[inspect.Parameter]) -> str:
    return f"({', '.join(parameter.name for parameter in parameters)})"


def check_settings(site: _Site, settings: str) -> None:
    """Check that its section is declared, shown with its variables, and validated."""
    cls = site.runner.SETTINGS
    listed = site.rvrun("config").stdout
    if cls is not None:
        assert attrs.has(cls), f"SETTINGS must be an attrs class, got {cls!r}"
        for field in attrs.fields(cls):
            assert field.metadata.get("help"), f"SETTINGS.{field.name} must be a `setting(...)`"
            key = f"{site.name}.{field.name}"
            assert re.search(rf"^{re.escape(key)} ", listed, re.MULTILINE), f"no setting {key}"
    site.write("rvrun.toml", f"{settings}\n[{site.name}.no-such]\nsetting = 1\n")
    refused = site.rvrun("config", code=INVALID).stderr
    site.write("rvrun.toml", settings)
    assert "no-such" in refused, f"an unknown setting must be named: {refused}"


def check_rendering(site: _Site) -> None:
    """Check that rendering is pure: the same files anywhere, at any time, and none by planning."""
    before = site.files(".")
    site.rvrun("plan", *site.config, "--runner", site.name)
    assert site.files(".") == before, "`render` must not write files"
    renderings = []
    for out, seed in (("one", "1"), ("two", "2")):
        # The same place in another folder: only the folder's own name may not matter.
        other = attrs.evolve(site, folder=site.folder / out)
        for path in ("conformance.py", "rvrun.toml"):
            other.write(path, (site.folder / path).read_text(encoding="utf-8"))
        variables = {"PYTHONHASHSEED": seed, "HOME": str(other.folder), "TZ": f"UTC{seed}"}
        other.rvrun("render", site.name, *site.config, environ=variables)
        renderings.append(other.files("runs/conformance"))
    assert renderings[0] == renderings[1], "the same input must render the same bytes"
    own = tuple(f"{folder}/" for folder in (*site.runner.OWNS, paths.CONFIGS, paths.CODE))
    outside = [path for path in renderings[0] if "/" in path and not path.startswith(own)]
    assert not outside, f"{', '.join(outside)} must be in a folder of OWNS"
    machine = [str(site.folder), os.uname().nodename]
    for path, content in renderings[0].items():
        text = content.decode()
        assert not any(word in text for word in machine), f"{path} depends on this machine"


def check_storage(site: _Site) -> None:
    """Check that a local root is refused exactly if the runner needs remote storage."""
    words = ["conformance.py", "-a", "root_uri", "out", "--out", "runs/local-root"]
    done = site.rvrun("render", site.name, *words, code=None)
    expected = INVALID if site.capabilities.needs_remote_storage else DONE
    assert done.code == expected, (
        f"needs_remote_storage is {site.capabilities.needs_remote_storage}, but rendering for a "
        f"local root ended with {done.code}:\n{done.stderr}"
    )


def check_templates(site: _Site) -> None:
    """Check that each template can be replaced."""
    for number, name in enumerate(site.runner.TEMPLATES):
        site.write(f"templates-{number}/{name}", "{{ no_such_name }}\n")
        words = ("--templates", f"templates-{number}", "--out", f"templates-{number}/out")
        done = site.rvrun("render", site.name, *site.config, *words, code=INVALID)
        assert "no_such_name" in done.stderr, f"{name} of --templates is not used"


def check_run(site: _Site) -> None:
    """Check a run to its end: all targets ran, in processes as declared, with stamps or without."""
    done = site.rvrun("run", site.name, *site.config)
    ran = _ran(_output(site, done))
    expected = ["alone", "first", "last", "later", *_splits("match"), *_splits("part")]
    assert sorted(ran) == sorted(expected), f"expected {sorted(expected)} to run, got {sorted(ran)}"
    pids = set(ran.values())
    is_isolated = done.pid not in pids and len(pids) == len(ran)
    capabilities = site.capabilities
    assert capabilities.isolated == is_isolated, (
        f"isolated is {capabilities.isolated}, but {len(ran)} targets ran in {len(pids)} processes"
    )
    _check_stamps(site)


def _check_stamps(site: _Site) -> None:
    """Check that a finished run leaves stamps, if the runner keeps them, and none otherwise."""
    listed = site.rvrun("plan", *site.config, "--runner", site.name).stdout
    is_up_to_date = "all up to date" in listed
    has_stamps = (site.folder / "runs/conformance/done").exists()
    keeps = site.capabilities.keeps_stamps
    assert keeps == is_up_to_date == has_stamps, (
        f"keeps_stamps is {keeps}, but after a run the plan says:\n{listed}"
    )


def _splits(command: str) -> list[str]:
    return [f"{command} {index} of {NUM_SPLITS}" for index in range(NUM_SPLITS)]


def _ran(output: str) -> dict[str, int]:
    """The targets that reported in `output`, each with its process."""
    return {
        match[1] if match[2] is None else f"{match[1]} {match[2]} of {match[3]}": int(match[4])
        for match in _RAN.finditer(output)
    }


def _output(site: _Site, done: _Done, out: str = "runs/conformance") -> str:
    """What the targets of a run on this machine printed."""
    logs = (site.folder / out / "logs").rglob("*.log")
    return done.stdout + "".join(log.read_text(encoding="utf-8") for log in logs)


def check_failure(site: _Site) -> None:
    """Check a run with a failing target, and that it keeps going if and only if it declares so."""
    words = [*site.config, "-a", "fail", "true"]
    done = site.rvrun("run", site.name, *words, "--out", "runs/failing", code=FAILED)
    assert "last" not in _ran(_output(site, done, "runs/failing")), (
        "ran although what it needs failed"
    )
    done = _run_directly(site, "runs/going", "keep_going")
    ran = _ran(_output(site, done, "runs/going"))
    assert "last" not in ran, "a target ran although what it needs had failed"
    independent = {"alone", "later", f"part 2 of {NUM_SPLITS}"}
    declared, observed = site.capabilities.keeps_going, independent <= set(ran)
    assert declared == observed, f"keeps_going is {declared}, but after a failure ran {sorted(ran)}"
    code = FAILED if declared else INVALID
    site.rvrun("run", site.name, *words, "--keep-going", "--out", "runs/kept", code=code)


def check_debugger(site: _Site) -> None:
    """Check that the debugger is entered exactly if declared."""
    declared = site.capabilities.has_debugger
    observed = "(Pdb)" in _run_directly(site, "runs/debugged", "debug").stdout
    assert declared == observed, f"has_debugger is {declared}, but `--pdb` would not show that"
    words = [*site.config, "-a", "fail", "true", "--pdb", "--out", "runs/pdb"]
    site.rvrun("run", site.name, *words, code=FAILED if declared else INVALID)


def _run_directly(site: _Site, out: str, options: str) -> _Done:
    """Run the failing pipeline with `options` of a request, whatever the runner declares."""
    return site.start("-c", DIRECT, site.name, site.root_uri, out, options)


def check_jobs(site: _Site) -> None:
    """Check that each job runs its own split, by the engine's variables alone."""
    assert site.job_environ is not None, "pass `job_environ`: jobs of detached runners have indices"
    # The config as every runner renders it.
    site.rvrun("render", site.name, *site.config, "--out", "runs/jobs")
    config = "runs/jobs/config/conformance.json"
    for index in range(NUM_SPLITS):
        variables = site.job_environ(index, NUM_SPLITS)
        words = (config, "part", "--num-splits", str(NUM_SPLITS), "--runner", site.name)
        done = site.rvrun("run_command", *words, environ=variables)
        expected = f"part {index} of {NUM_SPLITS}"
        assert list(_ran(done.stdout)) == [expected], f"job {index} printed {done.stdout!r}"
        if site.capabilities.multi_host:
            _check_hosts(site, index, variables)
    # A job must never guess its split.
    words = (config, "part", "--num-splits", str(NUM_SPLITS), "--runner", site.name)
    site.rvrun("run_command", *words, code=INVALID)


def _check_hosts(site: _Site, index: int, variables: Mapping[str, str]) -> None:
    hosts = plugins.load_runner(site.name).hosts({**os.environ, **site.environ, **variables})
    assert hosts.rank == index, f"host {index} has rank {hosts.rank}"


def check_detached_run(site: _Site) -> None:
    """Check a run to its end: submitted, over, with every target's log; nothing to retry."""
    run_id = _submit(site)
    state = _wait(site, run_id, DONE)
    assert state["state"] == "succeeded", f"the run is {state['state']}: {state}"
    counts = {stage["name"]: stage["succeeded"] for stage in state["stages"]}
    whole = {"first": 1, "last": 1, "later": 1, "alone": 1}
    expected = {**whole, "part": NUM_SPLITS, "match": NUM_SPLITS}
    assert counts == {f"conformance/{stage}": n for stage, n in expected.items()}, counts
    for target, line in (("last", "last"), ("part/2", f"part 2 of {NUM_SPLITS}")):
        log = site.rvrun("logs", run_id, f"conformance/{target}").stdout
        assert list(_ran(log)) == [line], f"the log of {target} is {log!r}"
    site.rvrun("logs", run_id, "conformance/no-such", code=INVALID)
    site.rvrun("retry", run_id, code=INVALID)
    site.rvrun("cancel", run_id)
    _check_stamps(site)
    _check_report(site, run_id)


def _check_report(site: _Site, run_id: str) -> None:
    """Check that a report has all targets of a finished run, if the runner reports them."""
    capabilities = site.capabilities
    can_report = capabilities.reports_targets or capabilities.keeps_stamps
    words = ("report", run_id, "--trace", "trace.json")
    site.rvrun(*words, code=DONE if can_report else INVALID)
    assert can_report == hasattr(site.runner, "targets") or capabilities.keeps_stamps, (
        "a runner with `targets` must declare reports_targets"
    )
    if not can_report:
        return
    trace = json.loads((site.folder / "trace.json").read_text(encoding="utf-8"))
    ran = {event["name"] for event in trace["traceEvents"] if event["ph"] == "X"}
    whole = ("first", "last", "later", "alone")
    split = [f"{stage}/{index}" for stage in ("part", "match") for index in range(NUM_SPLITS)]
    expected = {f"conformance/{name}" for name in (*whole, *split)}
    assert ran == expected, f"the report must have when each target ran, got {sorted(ran)}"


def check_retry(site: _Site) -> None:
    """Check a failed run and its retry, which runs only what had not succeeded."""
    run_id = _submit(site, "-a", "fail", "true", "--out", "runs/failing")
    state = _wait(site, run_id, FAILED)
    assert state["state"] == "failed", f"the run is {state['state']}: {state}"
    assert state["failure"]["target"] == "conformance/part/1", state["failure"]
    _check_failed_part(state)
    site.rvrun("retry", run_id)
    _check_failed_part(_wait(site, run_id, FAILED))


def _check_failed_part(state: Mapping[str, Any]) -> None:
    """Check the states of targets before, in and after the stage that failed.

    Other splits of it may have ended before the engine stopped, or not.
    """
    counts = _counts(state)
    assert counts["first"] == {"succeeded": 1}, state
    assert counts["part"].get("failed", 0) >= 1, state
    assert sum(counts["part"].values()) == NUM_SPLITS, state
    assert "succeeded" not in counts["last"], state


def check_cancel(site: _Site) -> None:
    """Check that a running run can be cancelled, and not be submitted a second time meanwhile."""
    run_id = _submit(site, "-a", "seconds", "600", "--out", "runs/slow")
    words = [*site.config, "-a", "seconds", "600", "--out", "runs/slow"]
    site.rvrun("run", site.name, *words, code=INVALID)
    site.rvrun("cancel", run_id)
    state = _wait(site, run_id, None)
    assert state["state"] == "cancelled", f"the run is {state['state']}: {state}"


def _submit(site: _Site, *words: str) -> str:
    """Submit the pipeline; its run's id, which `rvrun run` prints."""
    return site.rvrun("run", site.name, *site.config, *words).stdout.strip()


def _wait(site: _Site, run_id: str, code: int | None) -> dict[str, Any]:
    """Wait for the end of a run; its state as `rvrun status --json` prints it."""
    deadline = time.monotonic() + site.timeout
    while True:
        done = site.rvrun("status", run_id, "--json", code=None)
        assert done.code in (DONE, FAILED), f"`rvrun status {run_id}`: {done.stdout}{done.stderr}"
        state: dict[str, Any] = json.loads(done.stdout)
        if state["state"] not in ("running", "interrupted"):
            assert code is None or done.code == code, f"status ended with {done.code}: {state}"
            return state
        assert time.monotonic() < deadline, f"the run did not end in {site.timeout} s: {state}"
        time.sleep(0.2)


def _counts(state: Mapping[str, Any]) -> dict[str, dict[str, int]]:
    """The targets of each stage that are over, by state."""
    return {
        stage["name"].partition("/")[2]: {word: stage[word] for word in OVER if stage.get(word)}
        for stage in state["stages"]
    }
