"""Checks of this machine: Python, the runner and what it needs here, GPUs."""

from __future__ import annotations

import os
import pathlib
import sys
import tempfile
from collections.abc import Iterator

import rvrun
from rvrun.checks.case import Case
from rvrun.checks.places import folder_problem
from rvrun.errors import RvrunError
from rvrun.finding import Finding, Level, error, ok, warning
from rvrun.model import Plan
from rvrun.plugins import runner_names
from rvrun.settings.schema import MachineSettings, Settings, key_of, variable
from rvrun.text import count
from rvrun.worker import gpu_slots
from rvrun.worker.machine import misfits


def check_python(case: Case) -> Iterator[Finding]:
    """Report which Python and which rvrun this is."""
    version = ".".join(map(str, sys.version_info[:3]))
    yield ok("python", f"{version} ({sys.executable})")
    yield ok("rvrun", f"{rvrun.__version__} ({os.path.dirname(rvrun.__file__)})")


def check_runner(case: Case) -> Iterator[Finding]:
    """Check that the runner is installed."""
    if isinstance(case.runner, RvrunError):
        options = " or ".join(f"--runner {name}" for name in runner_names())
        yield Finding(Level.ERROR, "runner", str(case.runner), f"type {options}")
    else:
        yield ok("runner", case.request.runner)


def check_requirements(case: Case) -> Iterator[Finding]:
    """Check what the runner needs on this machine."""
    if not isinstance(case.runner, RvrunError):
        # What the machine lacks does not depend on whether the settings are valid.
        settings = Settings() if isinstance(case.settings, RvrunError) else case.settings
        yield from case.runner.check_machine(settings)


def check_gpus(case: Case) -> Iterator[Finding]:
    """Check that there are GPUs for the commands that need one, with slots that can be locked."""
    settings = case.settings
    if isinstance(settings, RvrunError) or case.detached is not None:
        return
    machine, gpus = settings.of(MachineSettings), gpu_slots.find_gpus()
    devices = list(machine.gpus) or gpus
    slots = machine.gpu_slots or len(devices)
    commands = _gpu_commands(case)
    if commands and (problem := _locks_problem(machine.gpu_locks)):
        key = key_of(MachineSettings, "gpu_locks")
        fix = f"choose another directory with the setting `{key}` ({variable(key)})"
        yield error("gpus", f"the slots' lock files cannot be written: {problem}", fix)
    elif commands and not devices:
        name = variable(key_of(MachineSettings, "gpus"))
        fix = f"run where `nvidia-smi -L` lists a GPU, or set {name}=0"
        yield warning("gpus", f"no GPU found, but required by: {', '.join(commands)}", fix)
    else:
        on_devices = f" on {', '.join(devices)}" if devices else ""
        in_parallel = f"{count(slots, 'GPU target')} in parallel{on_devices}"
        if not slots:
            in_parallel = "GPU targets run without a limit of their own"
        yield ok("gpus", f"found {count(len(gpus), 'GPU')}; {in_parallel}")


def check_resources(case: Case) -> Iterator[Finding]:
    """Check that this machine has the CPUs and the memory that commands declare."""
    if isinstance(case.runner, RvrunError) or not case.runner.CAPABILITIES.limits_targets:
        return
    if isinstance(case.settings, RvrunError) or not isinstance(case.plan, Plan):
        return
    fix = "run it on a larger machine, or declare less in `resources`"
    for text in misfits(case.plan, case.settings.of(MachineSettings)):
        yield warning("resources", text, fix)


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
