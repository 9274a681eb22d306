"""Drawing plans as Mermaid and DOT."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest
from hypothesis import given, settings

from rvrun.model import Need, NeedKind, Plan, PlannedPipeline, Stage
from rvrun.plan.graph import to_dot, to_mermaid
from tests.strategies import plans

PLAN = Plan(
    (
        PlannedPipeline(
            name="tiny",
            config_digest="sha256:0",
            stages=(
                Stage(command="chip", num_splits=1200),
                Stage(command="train", gpu=True, needs=(Need("chip"),)),
                Stage(
                    command="predict",
                    num_splits=1200,
                    gpu=True,
                    needs=(Need("chip", NeedKind.ALIGNED), Need("train")),
                ),
                Stage(command="eval", needs=(Need("predict"),)),
            ),
        ),
        PlannedPipeline(
            name="other-1.0", config_digest="sha256:1", stages=(Stage(command="chip"),)
        ),
    )
)
MERMAID = """\
flowchart LR
  subgraph p0["tiny"]
    p0s0[["chip<br/>1,200 splits"]]
    p0s1["train<br/>GPU"]
    p0s2[["predict<br/>1,200 splits, GPU"]]
    p0s3["eval"]
    p0s0 --> p0s1
    p0s0 -.->|aligned| p0s2
    p0s1 --> p0s2
    p0s2 --> p0s3
  end
  subgraph p1["other-1.0"]
    p1s0["chip"]
  end
"""
DOT = r"""digraph plan {
  rankdir=LR
  node [shape=box]
  subgraph cluster_0 {
    label="tiny"
    "tiny/chip" [label="chip\n1,200 splits", peripheries=2]
    "tiny/train" [label="train\nGPU"]
    "tiny/predict" [label="predict\n1,200 splits, GPU", peripheries=2]
    "tiny/eval" [label="eval"]
    "tiny/chip" -> "tiny/train"
    "tiny/chip" -> "tiny/predict" [style=dashed, label=aligned]
    "tiny/train" -> "tiny/predict"
    "tiny/predict" -> "tiny/eval"
  }
  subgraph cluster_1 {
    label="other-1.0"
    "other-1.0/chip" [label="chip"]
  }
}
"""


def edges(plan: Plan) -> list[tuple[str, str, bool]]:
    """The needs of a plan: the needed stage, the stage that needs it, whether aligned."""
    return [
        (
            f"{pipeline.name}/{need.command}",
            f"{pipeline.name}/{stage.command}",
            need.kind is NeedKind.ALIGNED,
        )
        for pipeline in plan.pipelines
        for stage in pipeline.stages
        for need in stage.needs
    ]


def test_mermaid() -> None:
    """Two pipelines with split, GPU and aligned stages."""
    assert to_mermaid(PLAN) == MERMAID


def test_dot() -> None:
    """The same plan as a DOT digraph."""
    assert to_dot(PLAN) == DOT


def test_one_split_is_singular() -> None:
    """The label of a stage with one split is "1 split"."""
    stage = Stage(command="chip", num_splits=1)
    plan = Plan((PlannedPipeline(name="tiny", config_digest="", stages=(stage,)),))
    assert '    p0s0[["chip<br/>1 split"]]\n' in to_mermaid(plan)
    assert '    "tiny/chip" [label="chip\\n1 split", peripheries=2]\n' in to_dot(plan)


def test_an_empty_plan_is_an_empty_graph() -> None:
    """Both formats are valid without nodes."""
    assert to_mermaid(Plan(())) == "flowchart LR\n"
    assert to_dot(Plan(())) == "digraph plan {\n  rankdir=LR\n  node [shape=box]\n}\n"


@given(plans())
@settings(max_examples=40)
def test_each_need_is_one_edge_in_dot(plan: Plan) -> None:
    """Edges are in the plan's order, and each stage has a node."""
    text = to_dot(plan)
    drawn = re.findall(
        r'^ {4}"(\S+)" -> "(\S+)"( \[style=dashed, label=aligned\])?$', text, re.MULTILINE
    )
    assert edges(plan) == [(one, other, bool(dashed)) for one, other, dashed in drawn]
    nodes = re.findall(r'^ {4}"(\S+)" \[label=', text, re.MULTILINE)
    assert [f"{p.name}/{s.command}" for p in plan.pipelines for s in p.stages] == nodes
    assert text.count("{") == text.count("}")


@given(plans())
@settings(max_examples=40)
def test_each_need_is_one_edge_in_mermaid(plan: Plan) -> None:
    """Nodes have numbered ids, so that names need no escaping."""
    text = to_mermaid(plan)
    nodes = dict(re.findall(r'^ {4}(p\d+s\d+)\[+"([\w-]+)(?=<br/>|")', text, re.MULTILINE))
    assert [s.command for p in plan.pipelines for s in p.stages] == list(nodes.values())
    drawn = re.findall(r"^ {4}(p(\d+)s\d+) (-->|-\.->\|aligned\|) (p\d+s\d+)$", text, re.MULTILINE)
    names = [pipeline.name for pipeline in plan.pipelines]
    assert edges(plan) == [
        (f"{names[int(i)]}/{nodes[one]}", f"{names[int(i)]}/{nodes[other]}", "aligned" in arrow)
        for one, i, arrow, other in drawn
    ]


@pytest.mark.skipif(shutil.which("dot") is None, reason="graphviz is not installed")
@pytest.mark.usefixtures("processes")
def test_graphviz_accepts_the_digraph() -> None:
    """`dot` parses it without an error."""
    subprocess.run(["dot", "-Tplain"], input=DOT, text=True, capture_output=True, check=True)
