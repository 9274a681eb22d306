"""The jobs of a round that failed, as the specs of the next one. Pure; knows JSON alone.

Only the failed splits of an array go again, as a smaller array that is told which they are. What
hung on them failed with them, so it goes again too; what succeeded is depended on no more.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from rvrun import split_ranges as indices
from rvrun.environment import SPLITS
from rvrun.runners.batch.boot import booted
from rvrun.runners.batch.limits import RUN, check_sizes
from rvrun.runners.batch.specs import file_names, symbol
from rvrun.runners.batch.submit import Ticket
from rvrun.runners.problems import check_fit


@attrs.frozen
class Failed:
    """A job that failed, and the splits of it that did; None for one that is not split."""

    ticket: Ticket
    splits: tuple[int, ...] | None


def retry_files(failed: Sequence[Failed], number: int) -> dict[str, str]:
    """The specs of round `number`, as {relative path: text} in the order of submission.

    Raises `Unfit` where what must be told of the failed splits is too much for a job.
    """
    by_key = {each.ticket.key: each for each in failed}
    requests = [retried(each, by_key, number) for each in failed]
    check_fit(
        "AWS Batch",
        [
            finding
            for key, request in zip(by_key, requests, strict=True)
            for finding in check_sizes(key, request)
        ],
    )
    paths = file_names(by_key)
    return {path: _text(request) for path, request in zip(paths, requests, strict=True)}


def _text(request: Mapping[str, Any]) -> str:
    return json.dumps(request, indent=2, ensure_ascii=False) + "\n"


def retried(one: Failed, failed: Mapping[str, Failed], number: int) -> dict[str, Any]:
    """The request of a job again: under a fresh name, for what failed of it."""
    request = {**one.ticket.request, "jobName": _fresh_name(one.ticket.name, number)}
    request.pop("dependsOn", None)
    if depends := _depends(one, failed):
        request["dependsOn"] = depends
    return request if one.splits is None else _narrowed(request, one.splits)


def _fresh_name(name: str, number: int) -> str:
    """`${run}-r2-tiny-chip` of `${run}-tiny-chip`, `${run}-r3-tiny-chip` of that."""
    before = f"{RUN}-" if number == 2 else f"{RUN}-r{number - 1}-"
    return f"{RUN}-r{number}-{name.removeprefix(before)}"


def _depends(one: Failed, failed: Mapping[str, Failed]) -> list[dict[str, str]]:
    """What of its dependencies goes again: index by index only between the same splits."""
    found = []
    for need in one.ticket.request.get("dependsOn", ()):
        other = failed.get(need["jobId"][2:-1])
        if other is None:
            continue
        same = other.splits == one.splits and one.splits is not None and len(one.splits) > 1
        aligned = need.get("type") == "N_TO_N" and same
        key = symbol(other.ticket.key)
        found.append({"jobId": key, **({"type": "N_TO_N"} if aligned else {})})
    return found


def _narrowed(request: dict[str, Any], splits: Sequence[int]) -> dict[str, Any]:
    """A request for just these splits: an array, or a plain job for one."""
    overrides = dict(request["containerOverrides"])
    others = [each for each in overrides.get("environment", ()) if each["name"] != SPLITS]
    own = {"name": SPLITS, "value": indices.write(splits)}
    overrides["command"] = booted(overrides["command"])
    overrides["environment"] = sorted([*others, own], key=lambda each: str(each["name"]))
    narrowed = {**request, "containerOverrides": overrides}
    narrowed.pop("arrayProperties", None)
    if len(splits) > 1:
        narrowed["arrayProperties"] = {"size": len(splits)}
    return narrowed
