"""Warnings about files that several stages or items write."""

from __future__ import annotations

import pathlib

import pytest

from rvrun.load.source import load
from rvrun.plan.compile import compile_plan
from rvrun.plan.shared_outputs import shared_outputs

MATRIX = """
name = "m"
[matrix]
k = [1, 2, 3, 4, 5]
[commands.a]
run = "true"
outputs = ["out/model"]
"""
STAGES = """
root = "out"
[commands.a]
run = "true"
outputs = ["{root}/x", "{root}/*.txt"]
[commands.b]
run = "true"
outputs = ["out//./x", "{root}/b.txt"]
[commands.c]
needs = ["b"]
run = "true"
[commands.d]
needs = ["c"]
run = "true"
outputs = ["{root}/x", "{root}/{{y}}"]
[commands.e]
run = "true"
outputs = ["{root}/{{y}}"]
"""
ITEMS = """
root = "out"
[commands.a]
items = ["p/x.tif", "p/y.tif", "q/x.tif", "r/x.tif", "p/y.tif"]
run = "true {item}"
outputs = ["{root}/{item.stem}.txt", "{root}/{item}", "{root}/{item.parent}/*.txt"]
[commands.b]
items = [{ id = 1, g = "u" }, { id = 2, g = "v" }, { id = 3, g = "u" }]
run = "true {item.id}"
outputs = ["{root}/{item.id}.b", "{root}/{item.g}.b"]
"""


@pytest.mark.parametrize(
    ("text", "warnings"),
    [
        (
            MATRIX,
            ["m-1/a, m-2/a, m-3/a and 2 more write out/model and may overwrite each other's files"],
        ),
        (
            STAGES,
            [
                "pipeline/a, pipeline/b write out/x and may overwrite each other's files",
                "pipeline/d, pipeline/e write out/{y} and may overwrite each other's files",
            ],
        ),
        (
            ITEMS,
            [
                "pipeline/a: items p/x.tif and q/x.tif write out/x.txt",
                "pipeline/b: items 1 and 3 write out/u.b",
            ],
        ),
    ],
    ids=["pipelines", "stages", "items"],
)
def test_shared_outputs(in_folder: pathlib.Path, text: str, warnings: list[str]) -> None:
    (in_folder / "pipeline.toml").write_text(text, encoding="utf-8")
    pipelines = load("pipeline.toml", "local", {})
    plan = compile_plan([pipeline.declared for pipeline in pipelines])
    assert sorted(shared_outputs(pipelines, plan)) == warnings
