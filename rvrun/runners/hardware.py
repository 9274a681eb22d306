"""What targets of a runner run on, as far as settings and pipelines tell."""

from __future__ import annotations

import attrs

from rvrun.model import Stage
from rvrun.plan.estimate import Hardware
from rvrun.runners.protocol import Runner
from rvrun.settings.overrides import matches
from rvrun.settings.schema import Settings


def find_hardware(runner: Runner, settings: Settings, name: str, stage: Stage) -> Hardware:
    """Return what a target of the stage `name`, such as `tiny/chip`, runs on.

    A runner may declare it with a function `hardware`; else it is what the pipeline's `resources`
    declare.
    """
    own = getattr(runner, "hardware", None)
    hardware = declared(stage) if own is None else own(settings, name, stage)
    is_spot = any(matches(glob, name) for glob in settings.prices.spot_commands)
    return attrs.evolve(hardware, is_spot=True) if is_spot else hardware


def declared(stage: Stage) -> Hardware:
    """Return what the pipeline declares for a stage; a GPU command has at least one GPU."""
    resources = stage.resources
    return Hardware(
        vcpus=resources.vcpus,
        gpus=resources.gpus or int(stage.gpu),
        memory_mib=resources.memory_mib,
    )
