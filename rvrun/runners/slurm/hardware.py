"""What a target runs on, for estimates. Pure."""

from __future__ import annotations

import math

from rvrun.model import Stage
from rvrun.plan.estimate import Hardware
from rvrun.runners.slurm.options import job_settings
from rvrun.runners.slurm.settings import SlurmSettings
from rvrun.settings.schema import Settings


def hardware(settings: Settings, name: str, stage: Stage) -> Hardware:
    """Return what a target of the stage `name` requests, and how many of them run in parallel.

    A task of an array runs its splits one after the other, or `parallel` of them together.
    """
    own = job_settings(name, stage, settings.of(SlurmSettings))
    pack, parallel = own.pack or 1, own.parallel or 1
    tasks = math.ceil((stage.num_splits or 1) / pack)
    return Hardware(
        vcpus=own.cpus or 1,
        # Generic resources may be GPUs or not.
        gpus=own.gpus or (None if stage.gpu else 0),
        memory_mib=own.memory_mib,
        width=min(tasks, own.max_running or tasks) * min(parallel, pack),
    )
