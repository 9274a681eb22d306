"""Concise builders for the compiler's input."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rvrun.model import Command, DeclaredPipeline, Need, NeedKind, Plan

DIGEST = "sha256:" + "0" * 64


def need(word: str) -> Need:
    """A need, written as `chip`, or as `=chip` if it is aligned."""
    return Need(word.lstrip("="), NeedKind.ALIGNED if word.startswith("=") else NeedKind.ALL)


def pipeline(
    name: str,
    *commands: str,
    needs: Mapping[str, Sequence[str]] | None = None,
    gpu: Sequence[str] = (),
    inputs: Mapping[str, Sequence[str]] | None = None,
    outputs: Mapping[str, Sequence[str]] | None = None,
    location: str = "",
) -> DeclaredPipeline:
    """A pipeline, as in `pipeline("tiny", "chip*", "train")`; `*` marks split commands."""

    def command(word: str) -> Command:
        name = word.rstrip("*")
        declared = (needs or {}).get(name)
        return Command(
            name=name,
            is_split=word.endswith("*"),
            gpu=name in gpu,
            needs=None if declared is None else tuple(map(need, declared)),
            inputs=tuple((inputs or {}).get(name, ())),
            outputs=tuple((outputs or {}).get(name, ())),
        )

    return DeclaredPipeline(
        name=name,
        config_digest=DIGEST,
        location=location,
        commands=tuple(map(command, commands)),
    )


def edges(plan: Plan) -> dict[str, list[str]]:
    """The needs of each stage, written as `need` reads them."""
    return {
        f"{planned.name}/{stage.command}": [
            ("=" if item.kind is NeedKind.ALIGNED else "") + item.command for item in stage.needs
        ]
        for planned in plan.pipelines
        for stage in planned.stages
    }
