"""What targets run on, for estimates, as the settings of each runner say."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from rvrun.model import Stage
from rvrun.plan.compile import compile_plan
from rvrun.plan.estimate import Hardware
from rvrun.plan.splits import parse_splits
from rvrun.runners.hardware import find_hardware
from rvrun.runners.registry import find_runner
from rvrun.settings.layers import load_settings
from tests.build import pipeline


def stage_of(splits: int, *, gpu: bool = False) -> Stage:
    declared = pipeline("p", "a*", gpu=["a"] if gpu else [])
    [planned] = compile_plan([declared], splits=parse_splits([str(splits)])).pipelines
    return planned.stages[0]


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ({}, Hardware(vcpus=1, gpus=0, width=100)),
        ({"max_running": 8}, Hardware(vcpus=1, gpus=0, width=8)),
        ({"pack": 10}, Hardware(vcpus=1, gpus=0, width=10)),
        ({"pack": 10, "parallel": 4}, Hardware(vcpus=1, gpus=0, width=40)),
        ({"pack": 64, "parallel": 4, "max_running": 9}, Hardware(vcpus=1, gpus=0, width=8)),
        ({"cpus": 3, "memory_mib": 512}, Hardware(vcpus=3, gpus=0, memory_mib=512, width=100)),
    ],
)
def test_slurm(flags: dict[str, Any], expected: Hardware) -> None:
    """The width is that of the array: its tasks, and what runs in parallel in each."""
    settings = load_settings({f"slurm.{key}": value for key, value in flags.items()})
    assert find_hardware(find_runner("slurm"), settings, "p/a", stage_of(100)) == expected


def test_gpus_of_slurm() -> None:
    """One unless a setting says more; other generic resources may be anything."""
    runner, stage = find_runner("slurm"), stage_of(2, gpu=True)
    for flags, gpus in (({}, 1), ({"slurm.gpus": 4}, 4), ({"slurm.gres": "gpu:a100:2"}, None)):
        assert find_hardware(runner, load_settings(flags), "p/a", stage).gpus == gpus


def test_the_width_of_sagemaker() -> None:
    """As many steps as may run in parallel, each with its instances."""
    runner, stage = find_runner("sagemaker"), stage_of(100)
    assert find_hardware(runner, load_settings({}), "p/a", stage).width is None
    flags: dict[str, Any] = {"sagemaker.parallel_steps": 3}
    assert find_hardware(runner, load_settings(flags), "p/a", stage).width == 3
    flags |= {"sagemaker.split_by": "instances", "sagemaker.max_instances": 5}
    assert find_hardware(runner, load_settings(flags), "p/a", stage).width == 15


def test_spot_commands() -> None:
    """They have the price of spot machines, on any runner."""
    settings = load_settings({"prices.spot_commands": ["a"]})
    hardware = find_hardware(find_runner("local"), settings, "p/a", stage_of(2))
    assert hardware == attrs.evolve(Hardware(gpus=0), is_spot=True)
