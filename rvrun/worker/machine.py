"""What this machine has for targets that declare what they need."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from rvrun.cpus import num_cpus
from rvrun.model import Plan, Stage
from rvrun.settings.schema import MachineSettings

#: The memory limit of a container (cgroup v2, and v1).
CGROUP_LIMITS = (
    "/sys/fs/cgroup/memory.max",
    "/sys/fs/cgroup/memory/memory.limit_in_bytes",
)


def limits_of(machine: MachineSettings) -> tuple[int, int]:
    """Return the CPUs and the MiB that targets share: those of the settings, or of this machine."""
    return machine.vcpus or num_cpus(), machine.memory_mib or memory_mib()


def memory_mib() -> int:
    """Return the memory of this machine, or of this container, in MiB."""
    amounts = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for path in CGROUP_LIMITS:
        # Without a limit it is `max`, or a number that no machine has.
        with contextlib.suppress(OSError, ValueError), open(path, encoding="ascii") as file:
            amounts.append(int(file.read()))
    return max(min(amounts) // 2**20, 1)


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
