"""Draw a plan as Mermaid, DOT or SVG. A split stage is one node with its number of splits."""

from __future__ import annotations

import json
import shutil
import subprocess

from rvrun.errors import RvrunError
from rvrun.model import Need, NeedKind, Plan, Stage
from rvrun.text import count


class NoGraphviz(RvrunError):
    """Graphviz, which draws SVG, is not installed."""

    template = (
        "graphviz is not installed (no `dot` on PATH); install it, for example with "
        "`apt-get install graphviz`, or print the graph with -f mermaid or -f dot"
    )


def to_mermaid(plan: Plan) -> str:
    """Draw a Mermaid flowchart, for a ```mermaid block on GitHub, with a box per pipeline."""
    lines = ["flowchart LR"]
    for number, pipeline in enumerate(plan.pipelines):
        lines.append(f'  subgraph p{number}["{pipeline.name}"]')
        nodes = {stage.command: f"p{number}s{i}" for i, stage in enumerate(pipeline.stages)}
        lines += [f"    {nodes[s.command]}{_mermaid_shape(s)}" for s in pipeline.stages]
        for stage in pipeline.stages:
            for need in stage.needs:
                arrow = "-.->|aligned|" if need.kind is NeedKind.ALIGNED else "-->"
                lines.append(f"    {nodes[need.command]} {arrow} {nodes[stage.command]}")
        lines.append("  end")
    return "\n".join(lines) + "\n"


def _mermaid_shape(stage: Stage) -> str:
    label = f'"{_label(stage, "<br/>")}"'
    return f"[{label}]" if stage.num_splits is None else f"[[{label}]]"


def to_dot(plan: Plan) -> str:
    """Draw a DOT digraph, for `dot -Tsvg`, with a cluster per pipeline."""
    lines = ["digraph plan {", "  rankdir=LR", "  node [shape=box]"]
    for number, pipeline in enumerate(plan.pipelines):
        lines.append(f"  subgraph cluster_{number} {{")
        lines.append(f"    label={_quoted(pipeline.name)}")
        for stage in pipeline.stages:
            border = "" if stage.num_splits is None else ", peripheries=2"
            name = _quoted(f"{pipeline.name}/{stage.command}")
            lines.append(f"    {name} [label={_quoted(_label(stage, chr(10)))}{border}]")
        lines += [
            f"    {_dot_edge(pipeline.name, stage, need)}"
            for stage in pipeline.stages
            for need in stage.needs
        ]
        lines.append("  }")
    return "\n".join([*lines, "}"]) + "\n"


def _dot_edge(pipeline: str, stage: Stage, need: Need) -> str:
    needed, name = (_quoted(f"{pipeline}/{end.command}") for end in (need, stage))
    aligned = " [style=dashed, label=aligned]" if need.kind is NeedKind.ALIGNED else ""
    return f"{needed} -> {name}{aligned}"


def to_svg(plan: Plan) -> str:
    """Draw the DOT digraph with graphviz. Raises `NoGraphviz`."""
    program = shutil.which("dot")
    if program is None:
        raise NoGraphviz
    completed = subprocess.run(
        [program, "-Tsvg"], input=to_dot(plan), capture_output=True, text=True, check=True
    )
    return completed.stdout


def _label(stage: Stage, line_break: str) -> str:
    facts = []
    if stage.num_splits is not None:
        facts.append(count(stage.num_splits, "split"))
    if stage.gpu:
        facts.append("GPU")
    return f"{stage.command}{line_break}{', '.join(facts)}" if facts else stage.command


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
