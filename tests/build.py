"""Short ways to say what the compiler reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rvrun.model import Command, DeclaredPipeline, Need, NeedKind, Plan

DIGEST = "sha256:" + "0" * 64


def need(word: str) -> Need:
    """`chip`, or `=chip` for an aligned need."""
    return Need(word.lstrip("="), NeedKind.ALIGNED if word.startswith("=") else NeedKind.ALL)


def pipeline(
    name: str,
    *commands: str,
    needs: Mapping[str, Sequence[str]] | None = None,
    gpu: Sequence[str] = (),
    location: str = "",
) -> DeclaredPipeline:
    """A pipeline of `commands`, those ending in `*` split: `pipeline("tiny", "chip*", "train")`."""
    said = needs or {}
    return DeclaredPipeline(
        name=name,
        config_digest=DIGEST,
        location=location,
        commands=tuple(
            Command(
                name=word.rstrip("*"),
                is_split=word.endswith("*"),
                gpu=word.rstrip("*") in gpu,
                needs=tuple(map(need, said[word.rstrip("*")]))
                if word.rstrip("*") in said
                else None,
            )
            for word in commands
        ),
    )


def edges(plan: Plan) -> dict[str, list[str]]:
    """Each stage's needs, in the words of `need`."""
    return {
        f"{planned.name}/{stage.command}": [
            ("=" if each.kind is NeedKind.ALIGNED else "") + each.command for each in stage.needs
        ]
        for planned in plan.pipelines
        for stage in planned.stages
    }
