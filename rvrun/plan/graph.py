"""A plan drawn: Mermaid, DOT, SVG. A split stage is one node with its count."""

from __future__ import annotations

import json
import shutil
import subprocess

from rvrun.errors import RvrunError
from rvrun.model import Need, NeedKind, Plan, Stage
from rvrun.text import count


def to_mermaid(plan: Plan) -> str:
    """A Mermaid flowchart, as GitHub shows it in a ```mermaid block; a box for each pipeline."""
    lines = ["flowchart LR"]
    for number, pipeline in enumerate(plan.pipelines):
        lines.append(f'  subgraph p{number}["{pipeline.name}"]')
        nodes = {stage.command: f"p{number}s{i}" for i, stage in enumerate(pipeline.stages)}
        lines += [f"    {nodes[s.command]}{_mermaid_shape(s)}" for s in pipeline.stages]
        for stage in pipeline.stages:
            for need in stage.needs:
                arrow = _mermaid_arrow(need)
                lines.append(f"    {nodes[need.command]} {arrow} {nodes[stage.command]}")
        lines.append("  end")
    return "\n".join(lines) + "\n"


def _mermaid_shape(stage: Stage) -> str:
    label = f'"{_label(stage, "<br/>")}"'
    return f"[{label}]" if stage.num_splits is None else f"[[{label}]]"


def _mermaid_arrow(need: Need) -> str:
    return "-.->|aligned|" if need.kind is NeedKind.ALIGNED else "-->"


def to_dot(plan: Plan) -> str:
    """A DOT digraph, as `dot -Tsvg` takes it; a cluster for each pipeline."""
    lines = ["digraph plan {", "  rankdir=LR", "  node [shape=box]"]
    for number, pipeline in enumerate(plan.pipelines):
        lines.append(f"  subgraph cluster_{number} {{")
        lines.append(f"    label={_quoted(pipeline.name)}")
        for stage in pipeline.stages:
            several = "" if stage.num_splits is None else ", peripheries=2"
            name = _quoted(f"{pipeline.name}/{stage.command}")
            lines.append(f"    {name} [label={_quoted(_label(stage, chr(10)))}{several}]")
        lines += [
            f"    {_dot_edge(pipeline.name, stage, need)}"
            for stage in pipeline.stages
            for need in stage.needs
        ]
        lines.append("  }")
    return "\n".join([*lines, "}"]) + "\n"


class NoGraphviz(RvrunError):
    """Graphviz is not there to draw with."""

    def __str__(self) -> str:
        return (
            "graphviz is not installed (no `dot` on PATH); install it, for example with "
            "`apt-get install graphviz`, or print the graph with -f mermaid or -f dot"
        )


def to_svg(plan: Plan) -> str:
    """The DOT digraph drawn by graphviz. Raises `NoGraphviz`."""
    program = shutil.which("dot")
    if program is None:
        raise NoGraphviz
    drawn = subprocess.run(
        [program, "-Tsvg"], input=to_dot(plan), capture_output=True, text=True, check=True
    )
    return drawn.stdout


def _dot_edge(pipeline: str, stage: Stage, need: Need) -> str:
    ends = (f"{pipeline}/{need.command}", f"{pipeline}/{stage.command}")
    aligned = " [style=dashed, label=aligned]" if need.kind is NeedKind.ALIGNED else ""
    return " -> ".join(_quoted(end) for end in ends) + aligned


def _label(stage: Stage, line_break: str) -> str:
    facts = [
        *([] if stage.num_splits is None else [count(stage.num_splits, "split")]),
        *(["GPU"] if stage.gpu else []),
    ]
    return line_break.join([stage.command, *([", ".join(facts)] if facts else [])])


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
