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
    location: str = "",
) -> DeclaredPipeline:
    """A pipeline, as in `pipeline("tiny", "chip*", "train")`; `*` marks split commands."""
    declared_needs = needs or {}
    return DeclaredPipeline(
        name=name,
        config_digest=DIGEST,
        location=location,
        commands=tuple(
            Command(
                name=word.rstrip("*"),
                is_split=word.endswith("*"),
                gpu=word.rstrip("*") in gpu,
                needs=tuple(map(need, declared_needs[word.rstrip("*")]))
                if word.rstrip("*") in declared_needs
                else None,
            )
            for word in commands
        ),
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
