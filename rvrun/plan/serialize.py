"""Write and read plan.json. Equal plans give equal bytes; docs/plan-format.md has the format."""

from __future__ import annotations

import json
import re
from typing import Any

import attrs

from rvrun.errors import RvrunError, describe
from rvrun.inputs import CannotRead, parse_json
from rvrun.model import (
    CodeMode,
    ItemCall,
    Need,
    NeedKind,
    Plan,
    PlannedPipeline,
    Resources,
    Stage,
    StageItems,
    check_plan,
)
from rvrun.patterns import NUM_SPLITS, SPLIT_IND, is_item_name, placeholders
from rvrun.text import quoted, shorten

#: The version of the format that this rvrun writes.
VERSION = 1
#: What to do about a plan that cannot be read.
RENDER = "write it again with `rvrun plan` or `rvrun render`, or name another file"
_PIPELINE_KEYS = ("name", "config", "config_digest", "stages")
#: Keys that a stage only has if the list is not empty, as in plans of earlier versions.
_PATH_KEYS = ("inputs", "item_inputs", "produced", "outputs")
_STAGE_KEYS = (
    *("command", "splits", "items", "gpu", "needs", "config_keys", "code"),
    *_PATH_KEYS,
    *("resources", "argv"),
)
_ITEMS_KEYS = ("field", "count", "digest", "call")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


class NotAPlan(RvrunError):
    """A document that is not a plan, or has a version that this rvrun does not read."""

    place: str
    problem: str
    template = f"{{place}} is not a plan that this rvrun can read: {{problem}}; {RENDER}"
    fix = RENDER


def plan_to_json(plan: Plan) -> str:
    """Serialize a plan, without anything that depends on the machine, the time or the user."""
    document = {
        "rvrun_plan": VERSION,
        "pipelines": [_pipeline_to_dict(pipeline) for pipeline in plan.pipelines],
    }
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def _pipeline_to_dict(pipeline: PlannedPipeline) -> dict[str, Any]:
    return {
        "name": pipeline.name,
        "config": f"config/{pipeline.name}.json",
        "config_digest": pipeline.config_digest,
        "stages": [_stage_to_dict(stage) for stage in pipeline.stages],
    }


def _stage_to_dict(stage: Stage) -> dict[str, Any]:
    return {
        "command": stage.command,
        "splits": stage.num_splits,
        "items": None if stage.items is None else attrs.asdict(stage.items),
        "gpu": stage.gpu,
        "needs": [{"command": need.command, "kind": need.kind.value} for need in stage.needs],
        "config_keys": None if stage.config_keys is None else list(stage.config_keys),
        "code": stage.code.value,
        **{key: list(paths) for key in _PATH_KEYS if (paths := getattr(stage, key))},
        "resources": attrs.asdict(stage.resources, filter=lambda _, value: value is not None),
        "argv": list(stage.argv),
    }


def plan_from_json(text: str, place: str = "the document") -> Plan:
    """Parse what `plan_to_json` writes. Raises `NotAPlan` with `place`, such as a path."""
    try:
        document = parse_json(text, place)
    except CannotRead as error:
        raise NotAPlan(place, f"it {error.problem}") from None
    if not isinstance(document, dict) or "rvrun_plan" not in document:
        raise NotAPlan(place, "it has no `rvrun_plan` version")
    version = document["rvrun_plan"]
    if type(version) is not int or version != VERSION:
        raise NotAPlan(
            place, f"it has version {quoted(version)}, this rvrun reads version {VERSION}"
        )
    try:
        plan = Plan(tuple(_pipeline_from_dict(item) for item in document["pipelines"]))
        check_plan(plan)
    except KeyError as error:
        raise NotAPlan(place, f"it has no {error}") from None
    except (TypeError, ValueError, RvrunError) as error:
        raise NotAPlan(place, describe(error).partition(": ")[2]) from None
    return plan


def _pipeline_from_dict(item: dict[str, Any]) -> PlannedPipeline:
    _check_keys(item, _PIPELINE_KEYS)
    _check_digest("config_digest", item["config_digest"])
    return PlannedPipeline(
        name=item["name"],
        config_digest=item["config_digest"],
        stages=tuple(_stage_from_dict(stage) for stage in item["stages"]),
    )


def _check_digest(name: str, value: Any) -> None:
    if not _DIGEST.fullmatch(value):
        rule = f"`{name}` must be `sha256:` and 64 hexadecimal digits in lower case"
        raise ValueError(f"{rule}, got {quoted(value)}")


def _check_keys(item: dict[str, Any], allowed: tuple[str, ...]) -> None:
    for key in item:
        if key not in allowed:
            raise ValueError(f"unknown key `{shorten(key)}`")


def _stage_from_dict(item: dict[str, Any]) -> Stage:
    _check_keys(item, _STAGE_KEYS)
    keys = item["config_keys"]
    if keys is not None and not _is_list_of_strings(keys):
        raise ValueError(f"`config_keys` must be a list of strings or null, got {quoted(keys)}")
    return Stage(
        command=item["command"],
        num_splits=item["splits"],
        gpu=item["gpu"],
        needs=tuple(Need(need["command"], NeedKind(need["kind"])) for need in item["needs"]),
        config_keys=None if keys is None else tuple(keys),
        # Plans of earlier versions do not have it.
        code=CodeMode(item.get("code", CodeMode.OFF.value)),
        **{key: _paths_from_list(key, item.get(key, [])) for key in _PATH_KEYS},
        resources=Resources(**item["resources"]),
        items=_items_from_dict(item.get("items")),
    )


def _items_from_dict(item: dict[str, Any] | None) -> StageItems | None:
    # Plans of earlier versions do not have it.
    if item is None:
        return None
    _check_keys(item, _ITEMS_KEYS)
    _check_digest("digest", item["digest"])
    if type(item["count"]) is not int or item["count"] < 0:
        raise ValueError(f"`count` must be an integer of at least 0, got {quoted(item['count'])}")
    return StageItems(
        field=item["field"],
        count=item["count"],
        digest=item["digest"],
        call=ItemCall(item["call"]),
    )


def _paths_from_list(key: str, value: Any) -> tuple[str, ...]:
    if not (_is_list_of_strings(value) and all(value)):
        raise ValueError(f"`{key}` must be a list of non-empty strings, got {quoted(value)}")
    others = {"item_inputs": (), "outputs": (SPLIT_IND, NUM_SPLITS)}
    for template in value if key in others else ():
        for name in placeholders(template):
            if name not in others[key] and not is_item_name(name):
                raise ValueError(f"unknown placeholder `{shorten(name)}` in `{key}`")
    return tuple(value)


def _is_list_of_strings(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)
