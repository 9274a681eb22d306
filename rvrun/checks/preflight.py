"""Preflight checks. Each finding comes with a fix.

machine     Python and rvrun, the runner, what the runner needs here, GPUs
settings    all layers, the templates
config      loaded here, compiled, rendered, accepted by the runner's service
targets     the pipeline built in a process of its own, as each target does
programs    the programs of a `pipeline.toml` on the PATH
places      the run directory, root URIs

A check is a function from a `Case` to findings.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from rvrun.checks import config, files, machine, places, programs, settings, targets
from rvrun.checks.case import Case
from rvrun.finding import Finding

CHECKS: tuple[Callable[[Case], Iterator[Finding]], ...] = (
    machine.check_python,
    machine.check_runner,
    machine.check_requirements,
    settings.check_settings,
    settings.check_templates,
    machine.check_gpus,
    config.check_config,
    config.check_plan,
    machine.check_resources,
    config.check_files,
    files.check_inputs,
    config.check_service,
    targets.check_targets,
    programs.check_programs,
    places.check_run_dir,
    places.check_root_uris,
    places.check_shared_roots,
    places.check_leftovers,
)


def check(case: Case) -> list[Finding]:
    """Return the findings of all checks, in their order."""
    return [finding for run_check in CHECKS for finding in run_check(case)]
