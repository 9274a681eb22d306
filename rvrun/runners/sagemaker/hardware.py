"""What a job runs on, for estimates. Pure."""

from __future__ import annotations

from rvrun.model import Stage
from rvrun.plan.estimate import Hardware
from rvrun.runners.sagemaker.machine import choose_machine
from rvrun.runners.sagemaker.settings import SagemakerSettings
from rvrun.settings.schema import Settings


def hardware(settings: Settings, name: str, stage: Stage) -> Hardware:
    """Return the instances of a job; several splits that share one have an instance each."""
    own = settings.of(SagemakerSettings)
    machine = choose_machine(name.rpartition("/")[0], stage, own)
    steps = own.parallel_steps
    return Hardware(
        instance=machine.instance_type,
        count=machine.instance_count,
        gpus=stage.resources.gpus or int(stage.gpu),
        is_spot=machine.is_spot,
        width=None if steps is None else steps * machine.max_instances,
    )
