"""Whether any node of a partition has what a job requests: without one, it would wait for ever.

sbatch accepts such a job on many clusters (slurm.conf(5), `EnforcePartLimits`).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence

import attrs

from rvrun.finding import Finding, error
from rvrun.runners.slurm.options import gres_of
from rvrun.runners.slurm.settings import SlurmCommandSettings

#: `gpu:a100:4(S:0-1)`, `gpu:2`, `gpu` (sinfo(1), `%G`; sbatch(1), `--gres`).
_GRES = re.compile(r"([A-Za-z_][\w.-]*)(?::([A-Za-z_][\w.-]*))?(?::(\d+))?(?:\([^)]*\))?")
#: Options after which another partition, or more nodes, may serve the job.
ELSEWHERE = ("--partition", "-p", "--nodes", "-N", "--clusters", "-M", "--reservation")


@attrs.frozen(kw_only=True)
class Gres:
    """Generic resources of a name, or of a name and a type."""

    name: str
    type: str | None
    number: int


@attrs.frozen(kw_only=True)
class Node:
    """What a node has, or several of the same kind, in a partition."""

    partition: str
    cpus: int
    memory_mib: int
    gres: Sequence[Gres]
    features: Collection[str]


def parse_node(line: str) -> Node | None:
    """Parse a line of `sinfo`: `main|4|8000|gpu:2|avx2,avx512`; None for any other line."""
    fields = line.strip().split("|")
    if len(fields) != 5 or not (fields[1].isdecimal() and fields[2].isdecimal()):
        return None
    partition, cpus, memory, gres, features = fields
    return Node(
        partition=partition,
        cpus=int(cpus),
        memory_mib=int(memory),
        gres=parse_gres(gres) or (),
        features=frozenset(features.split(",")),
    )


def parse_gres(text: str) -> list[Gres] | None:
    """Parse generic resources: `gpu:a100:2,tpu`; None if a form is not known."""
    # A comma in parentheses separates sockets.
    matches = [_GRES.fullmatch(part) for part in re.split(r",(?![^(]*\))", text)]
    own = [
        Gres(name=match[1], type=match[2], number=int(match[3] or 1)) for match in matches if match
    ]
    return own if len(own) == len(matches) else None


def check_nodes(
    name: str, own: SlurmCommandSettings, partitions: Collection[str], nodes: Sequence[Node]
) -> Iterator[Finding]:
    """Yield a finding about each request of a job that no node of its partitions can satisfy.

    - `name`: of the stage. `nodes`: those of all partitions; without any, nothing is checked.
    """
    options = [option for option in own.sbatch if option.startswith(ELSEWHERE)]
    rows = [node for node in nodes if node.partition in partitions]
    if options or not rows:
        return
    where = f"{name}: no node of partition {_either(partitions)} has"
    parallel = own.parallel or 1
    most = max(node.cpus for node in rows)
    if (cpus := (own.cpus or 1) * parallel) > most:
        text = f"{where} {cpus:,} CPUs; the largest has {most:,}"
        yield error("nodes", text, "lower `slurm.cpus` or `slurm.parallel`")
    most = max(node.memory_mib for node in rows)
    if (memory := (own.memory_mib or 0) * parallel) > most:
        text = f"{where} {memory:,} MiB of memory; the largest has {most:,}"
        yield error("nodes", text, "lower `slurm.memory_mib` or `slurm.parallel`")
    yield from _check_gres(where, own, rows)
    known = {feature for node in nodes for feature in node.features}
    for feature in _features(own.constraint or ""):
        if feature not in known:
            text = f"{name}: no node of the cluster has the feature `{feature}`"
            yield error("nodes", text, "correct `slurm.constraint`; `sinfo -o %f` lists features")


def _check_gres(where: str, own: SlurmCommandSettings, rows: Sequence[Node]) -> Iterator[Finding]:
    requested = gres_of(own)
    for gres in (parse_gres(requested) if requested else None) or ():
        if not any(_number(node, gres) >= gres.number for node in rows):
            text = f"{where} {_format(gres)}"
            fix = (
                "correct `slurm.gres`"
                if own.gres
                else "set `slurm.gpu_partition`, or lower `slurm.gpus` or `slurm.parallel`"
            )
            yield error("nodes", text, f"{fix}; `sinfo -o '%R %G'` lists generic resources")


def _either(names: Collection[str]) -> str:
    return " or ".join(f"`{name}`" for name in names)


def _number(node: Node, gres: Gres) -> int:
    """How many resources a node has that a request of `gres` may get."""
    same = [own for own in node.gres if own.name == gres.name]
    return sum(own.number for own in same if gres.type in (None, own.type))


def _format(gres: Gres) -> str:
    return ":".join(filter(None, [gres.name, gres.type, str(gres.number)]))


def _features(constraint: str) -> list[str]:
    """The features that a constraint such as `[rack1*2&rack2*4]|fast` names."""
    return [word for word in re.split(r"[&|()\[\],]+", re.sub(r"\*\d+", "", constraint)) if word]
