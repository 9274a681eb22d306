"""What this machine has for targets that declare what they need."""

from __future__ import annotations

from collections.abc import Iterator

from rvrun.cpus import num_cpus
from rvrun.memory_limit import memory_limit_kib
from rvrun.model import Plan, Stage
from rvrun.settings.schema import MachineSettings


def limits_of(machine: MachineSettings) -> tuple[int, int]:
    """Return the CPUs and the MiB that targets share: those of the settings, or of this machine."""
    return machine.vcpus or num_cpus(), machine.memory_mib or max(memory_limit_kib() // 1024, 1)


def misfits(plan: Plan, machine: MachineSettings) -> Iterator[str]:
    """Yield a sentence for each stage that needs more than this machine has."""
    if not any(
        stage.resources.vcpus or stage.resources.memory_mib
        for pipeline in plan.pipelines
        for stage in pipeline.stages
    ):
        return
    cpus, memory = limits_of(machine)
    for pipeline in plan.pipelines:
        for stage in pipeline.stages:
            excess = [*_excess(stage, cpus, memory)]
            if excess:
                yield (
                    f"{pipeline.name}/{stage.command} needs {' and '.join(excess)}: no target "
                    "that declares its needs runs beside it"
                )


def _excess(stage: Stage, cpus: int, memory: int) -> Iterator[str]:
    resources = stage.resources
    if (resources.vcpus or 0) > cpus:
        yield f"{resources.vcpus:,} vCPUs of {cpus:,}"
    if (resources.memory_mib or 0) > memory:
        yield f"{resources.memory_mib:,} MiB of {memory:,}"
