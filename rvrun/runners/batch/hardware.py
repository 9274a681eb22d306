"""What a job runs on, for estimates. Pure."""

from __future__ import annotations

from rvrun.model import Stage
from rvrun.plan.estimate import Hardware
from rvrun.runners.batch.jobs import split_into_parts
from rvrun.runners.batch.settings import BatchSettings
from rvrun.runners.batch.specs import job_settings
from rvrun.settings.schema import Settings


def hardware(settings: Settings, name: str, stage: Stage) -> Hardware:
    """Return what a job of the stage `name` requests; what its definition adds is unknown."""
    job = split_into_parts(name.rpartition("/")[0], stage)[0]
    own = job_settings(job, settings.of(BatchSettings))
    gpus = own.gpus or (stage.resources.gpus if stage.gpu else 0)
    return Hardware(
        vcpus=own.vcpus,
        gpus=gpus if gpus or not stage.gpu else None,
        memory_mib=own.memory_mib,
        is_spot=own.retry == "spot",
    )
