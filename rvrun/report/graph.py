"""The graph of stages as SVG, without graphviz: stages in columns, each right of what it needs."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from rvrun.model import NeedKind, PlannedPipeline

#: Sizes and distances of the boxes, in pixels.
WIDTH, HEIGHT, GAP_X, GAP_Y, MARGIN = 152, 54, 50, 18, 8


#: How many letters fit into a box.
NUM_LETTERS = 15


@attrs.frozen(kw_only=True)
class Node:
    """A stage in the drawing, by the upper left corner of its box."""

    name: str
    command: str
    x: int
    y: int

    @property
    def label(self) -> str:
        """The command, shortened in its middle if it is too long for the box."""
        long, half = self.command, NUM_LETTERS // 2
        return long if len(long) <= NUM_LETTERS else f"{long[:half]}…{long[-half:]}"


@attrs.frozen(kw_only=True)
class Edge:
    """A line from a stage to one that needs it, as the path of an SVG."""

    path: str
    is_aligned: bool


@attrs.frozen(kw_only=True)
class Drawing:
    """The stages of a pipeline, placed."""

    pipeline: str
    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]
    width: int
    height: int


def draw(pipeline: PlannedPipeline) -> Drawing:
    """Place the stages of a pipeline: the column is the longest way to a stage without needs."""
    columns: dict[str, int] = {}
    rows: dict[int, int] = {}
    nodes: dict[str, Node] = {}
    for stage in pipeline.stages:
        column = max((columns[need.command] + 1 for need in stage.needs), default=0)
        row = rows.get(column, 0)
        columns[stage.command], rows[column] = column, row + 1
        nodes[stage.command] = Node(
            name=f"{pipeline.name}/{stage.command}",
            command=stage.command,
            x=MARGIN + column * (WIDTH + GAP_X),
            y=MARGIN + row * (HEIGHT + GAP_Y),
        )
    edges = tuple(
        Edge(path=_path(nodes, need.command, stage.command), is_aligned=_is_aligned(need.kind))
        for stage in pipeline.stages
        for need in stage.needs
    )
    return Drawing(
        pipeline=pipeline.name,
        nodes=tuple(nodes.values()),
        edges=edges,
        width=2 * MARGIN + max(columns.values()) * (WIDTH + GAP_X) + WIDTH,
        height=2 * MARGIN + max(rows.values()) * (HEIGHT + GAP_Y) - GAP_Y,
    )


def _is_aligned(kind: NeedKind) -> bool:
    return kind is NeedKind.ALIGNED


def _path(nodes: Mapping[str, Node], needed: str, stage: str) -> str:
    """The curve from the right side of a box to the left side of another one."""
    first, second = nodes[needed], nodes[stage]
    x1, y1 = first.x + WIDTH, first.y + HEIGHT // 2
    x2, y2 = second.x, second.y + HEIGHT // 2
    bend = GAP_X // 2
    if x2 - x1 <= GAP_X:
        return f"M{x1} {y1}C{x1 + bend} {y1} {x2 - bend} {y2} {x2} {y2}"
    # Around the boxes in between.
    lane = max(y1, y2) + HEIGHT // 2 + GAP_Y // 2
    return (
        f"M{x1} {y1}C{x1 + bend} {y1} {x1 + bend // 2} {lane} {x1 + bend + 16} {lane}"
        f"L{x2 - bend - 16} {lane}C{x2 - bend // 2} {lane} {x2 - bend} {y2} {x2} {y2}"
    )
