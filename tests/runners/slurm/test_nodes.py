"""Requests that no node of a partition can satisfy. Pure."""

from __future__ import annotations

import pytest

from rvrun.runners.slurm.nodes import Gres, Node, check_nodes, parse_gres, parse_node
from rvrun.runners.slurm.settings import SlurmCommandSettings

LINES = [
    "cpu|64|256000|(null)|avx2,rack1",
    "gpu|32|128000|gpu:a100:4(S:0-1),gpu:v100:2(S:0,1),shard:8|80gb",
    "CLUSTER: tests",
    "",
]
NODES = [node for line in LINES if (node := parse_node(line)) is not None]


def problems(*partitions: str, **settings: object) -> list[str]:
    own = SlurmCommandSettings(**settings)  # type: ignore[arg-type]
    return [finding.text for finding in check_nodes("p/a", own, partitions, NODES)]


def test_lines_of_sinfo() -> None:
    """Other lines are none."""
    assert [node.partition for node in NODES] == ["cpu", "gpu"]
    assert NODES[1] == Node(
        partition="gpu",
        cpus=32,
        memory_mib=128000,
        gres=[
            Gres(name="gpu", type="a100", number=4),
            Gres(name="gpu", type="v100", number=2),
            Gres(name="shard", type=None, number=8),
        ],
        features=frozenset(["80gb"]),
    )


def test_requests_in_other_forms() -> None:
    """What cannot be parsed is left to sbatch."""
    assert parse_gres("gpu") == [Gres(name="gpu", type=None, number=1)]
    assert parse_gres("gpu:2K") is None


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"cpus": 8, "parallel": 8, "memory_mib": 32_000}, []),
        ({"cpus": 65}, ["has 65 CPUs; the largest has 64"]),
        (
            {"cpus": 9, "parallel": 8, "memory_mib": 40_000},
            [
                "has 72 CPUs; the largest has 64",
                "has 320,000 MiB of memory; the largest has 256,000",
            ],
        ),
        ({"gpus": 1}, ["has gpu:1"]),
        ({"constraint": "avx2&rack1*2"}, []),
        ({"constraint": "[avx2|80gb]"}, []),
    ],
    ids=str,
)
def test_a_partition_without_gpus(settings: dict[str, object], expected: list[str]) -> None:
    """A job requests the CPUs and the memory of all targets that run in parallel."""
    start = "p/a: no node of partition `cpu` "
    assert [text.removeprefix(start) for text in problems("cpu", **settings)] == expected


def test_gpus() -> None:
    """Those of a type, or of all types together."""
    assert problems("gpu", gpus=6) == []
    assert problems("gpu", gres="gpu:a100:4") == []
    assert problems("gpu", gres="gpu:a100:5") == ["p/a: no node of partition `gpu` has gpu:a100:5"]
    assert problems("cpu", "gpu", gres="gpu:7") == [
        "p/a: no node of partition `cpu` or `gpu` has gpu:7"
    ]


def test_features() -> None:
    """One that no node has; sbatch would refuse the job."""
    assert problems("cpu", constraint="avx2|h100") == [
        "p/a: no node of the cluster has the feature `h100`"
    ]


def test_what_is_not_known_is_not_checked() -> None:
    """A partition without nodes, and options of sbatch that lead elsewhere."""
    assert problems("new", cpus=1000) == []
    assert problems("cpu", cpus=1000, sbatch=("--partition=big",)) == []
