"""Write and read `estimates.json`: summaries of stages, to be committed and shared."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import attrs

from rvrun.errors import RvrunError
from rvrun.inputs import CannotRead, parse_json
from rvrun.plan.durations import NUM_QUANTILES, Rates, StageSummary
from rvrun.text import quoted, shorten

VERSION = 1
WRITE = "write it again with `rvrun records summary`"
#: The fields of a summary that are numbers, with what they are if unknown.
_NUMBERS: dict[str, float | None] = {
    "gap": 0.0,
    "interval": 0.0,
    "cpus": None,
    "mean_cpus": None,
    "machine_cpus": None,
    "peak_memory_mib": None,
}


class NotSummaries(RvrunError):
    """A document that is not what `summaries_to_json` writes."""

    place: str
    problem: str
    template = f"{{place}} must be a file of estimates: {{problem}}; {WRITE}"
    fix = WRITE


def summaries_to_json(summaries: Mapping[str, StageSummary]) -> str:
    """Serialize summaries by stage, such as `tiny/chip`; sorted, so that differences are small."""
    stages = {name: _to_dict(summaries[name]) for name in sorted(summaries)}
    return _indented({"rvrun_estimates": VERSION, "stages": stages}) + "\n"


def _to_dict(summary: StageSummary) -> dict[str, Any]:
    return attrs.asdict(summary, filter=lambda field, _: field.name != "source")


def _indented(document: Mapping[str, Any]) -> str:
    """JSON with a line for each value, and lists of numbers in one line."""
    text = json.dumps(document, indent=2, ensure_ascii=False)
    return re.sub(r"\[\s+([^][{}\"]*?)\s+\]", lambda match: f"[{' '.join(match[1].split())}]", text)


def summaries_from_json(text: str, place: str) -> dict[str, StageSummary]:
    """Parse what `summaries_to_json` writes; `place` is the source of each.

    Raises `NotSummaries`.
    """
    try:
        document = parse_json(text, place)
    except CannotRead as error:
        raise NotSummaries(place, f"it {error.problem}") from None
    if not isinstance(document, dict) or "rvrun_estimates" not in document:
        raise NotSummaries(place, "it has no `rvrun_estimates` version")
    if (version := document["rvrun_estimates"]) != VERSION or type(version) is not int:
        raise NotSummaries(
            place, f"it has version {quoted(version)}, this rvrun reads version {VERSION}"
        )
    stages = document.get("stages")
    if not isinstance(stages, dict):
        raise NotSummaries(place, f"`stages` must be an object, got {quoted(stages)}")
    summaries = {}
    for name, values in stages.items():
        try:
            summaries[name] = _from_dict(values, place)
        except (TypeError, ValueError) as error:
            raise NotSummaries(place, f"stage `{shorten(name)}`: {error}") from None
    return summaries


def _from_dict(values: Any, place: str) -> StageSummary:
    if not isinstance(values, dict):
        raise TypeError(f"it must be an object, got {quoted(values)}")
    known_keys = {field.name for field in attrs.fields(StageSummary)} - {"source"}
    if unknown := values.keys() - known_keys:
        raise ValueError(f"unknown key `{shorten(min(unknown))}`")
    targets = values.get("targets")
    if type(targets) is not int or targets < 1:
        raise ValueError(f"`targets` must be an integer of at least 1, got {quoted(targets)}")
    by_item = values.get("by_item")
    numbers: dict[str, Any] = {key: values.get(key, item) for key, item in _NUMBERS.items()}
    for key, number in numbers.items():
        if number is not None:
            _check_number(key, number)
    return StageSummary(
        targets=targets,
        by_split=_rates_from("by_split", values.get("by_split")),
        by_item=None if by_item is None else _rates_from("by_item", by_item),
        source=place,
        **numbers,
    )


def _rates_from(key: str, values: Any) -> Rates:
    if not isinstance(values, dict) or values.keys() - {"fixed"} != {"amount", "mean", "quantiles"}:
        raise ValueError(
            f"`{key}` must have `amount`, `mean` and `quantiles`, got {quoted(values)}"
        )
    fixed = values.get("fixed", 0.0)
    quantiles = values["quantiles"]
    if not isinstance(quantiles, list) or len(quantiles) != NUM_QUANTILES:
        raise ValueError(
            f"`{key}.quantiles` must be {NUM_QUANTILES} numbers, got {quoted(quantiles)}"
        )
    for name, number in (("amount", values["amount"]), ("mean", values["mean"]), ("fixed", fixed)):
        _check_number(f"{key}.{name}", number)
    for number in quantiles:
        _check_number(f"{key}.quantiles", number)
    if values["amount"] == 0 or quantiles != sorted(quantiles):
        raise ValueError(f"`{key}` must have an amount above 0 and sorted quantiles")
    return Rates(
        amount=values["amount"],
        mean=values["mean"],
        quantiles=tuple(quantiles),
        fixed=fixed,
    )


def _check_number(key: str, number: Any) -> None:
    # Not NaN or infinite either, and nothing that would overflow.
    if type(number) not in (int, float) or not 0 <= number < 1e12:
        raise ValueError(f"`{key}` must be a number between 0 and 1e12, got {quoted(number)}")
