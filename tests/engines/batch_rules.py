"""AWS Batch's rules as functions: what SubmitJob refuses, what a job consists of, what is retried.

Messages are the service's own where they are known.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import attrs

from tests.engines.attempts import Outcome
from tests.engines.errors import ServiceError

ARRAY_SIZES = range(2, 10_001)
MAX_DEPENDENCIES = 20
MAX_OVERRIDES = 8_192
MAX_PAYLOAD = 30 * 1024
MAX_TAGS = 50
ATTEMPTS = range(1, 11)
MAX_CONDITIONS = 5
MIN_TIMEOUT = 60
PRIORITIES = range(10_000)

OVERRIDES_TOO_LONG = f"Container Overrides length must be at most {MAX_OVERRIDES}"
TOO_MANY_TAGS = f"the tags of job and job definition together are more than {MAX_TAGS}"

JOB_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}")
SHARE = re.compile(r"[A-Za-z0-9]{1,255}\*?")
#: What evaluateOnExit may match: a glob has its only asterisk at its end.
PATTERNS = {
    "onExitCode": re.compile(r"(?!.{513})[0-9]*\*?"),
    "onReason": re.compile(r"(?!.{513})[A-Za-z0-9.:\s]*\*?"),
    "onStatusReason": re.compile(r"(?!.{513})[A-Za-z0-9.:\s]*\*?"),
}

Json = dict[str, Any]


def client_error(text: str) -> ServiceError:
    return ServiceError("ClientException", f"Error executing request, Exception : {text}")


@attrs.frozen
class Retry:
    """How many attempts a job has, and after which failures."""

    attempts: int = 1
    conditions: tuple[Json, ...] = ()

    def again(self, number: int, outcome: Outcome) -> bool:
        """Whether another attempt follows the failed attempt `number`; without a match it does."""
        if number >= self.attempts:
            return False
        for condition in self.conditions:
            if all(_matches(condition[key], _value(outcome, key)) for key in _keys(condition)):
                return str(condition["action"]).upper() == "RETRY"
        return True


def _keys(condition: Json) -> list[str]:
    return [key for key in PATTERNS if key in condition]


def _value(outcome: Outcome, key: str) -> str:
    if key == "onExitCode":
        return "" if outcome.exit_code is None else str(outcome.exit_code)
    return outcome.reason if key == "onReason" else outcome.status_reason


def _matches(pattern: str, text: str) -> bool:
    return text.startswith(pattern[:-1]) if pattern.endswith("*") else text == pattern


@attrs.frozen
class Spec:
    """What a job runs: its definition, overridden by its request."""

    command: tuple[str, ...]
    environment: Mapping[str, str]
    resources: Mapping[str, str]
    retry: Retry
    timeout: int | None
    tags: Mapping[str, str]
    impossible: str = ""  # the reason if it fails before it starts


def spec_of(request: Json, definition: Json) -> Spec:
    """Override a definition by a request."""
    container = definition.get("containerProperties", {})
    overrides = request.get("containerOverrides", {})
    retry = request.get("retryStrategy") or definition.get("retryStrategy") or {}
    timeout = request.get("timeout") or definition.get("timeout") or {}
    parameters = {**definition.get("parameters", {}), **request.get("parameters", {})}
    command = overrides.get("command") or container.get("command") or []
    return Spec(
        command=tuple(_filled(word, parameters) for word in command),
        environment={
            entry["name"]: entry.get("value", "")
            for part in (container, overrides)
            for entry in part.get("environment", [])
            if not entry["name"].startswith("AWS_BATCH")
        },
        resources={
            entry["type"]: entry["value"]
            for part in (container, overrides)
            for entry in part.get("resourceRequirements", [])
        },
        retry=Retry(retry.get("attempts", 1), tuple(retry.get("evaluateOnExit", ()))),
        timeout=timeout.get("attemptDurationSeconds"),
        tags=request.get("tags", {}),
        impossible=_impossible(request, definition),
    )


def _filled(word: str, parameters: Mapping[str, str]) -> str:
    """A word of a command, where `Ref::name` stands for a parameter."""
    return parameters.get(word[5:], word) if word.startswith("Ref::") else word


def _impossible(request: Json, definition: Json) -> str:
    overrides = json.dumps(
        request.get("containerOverrides", {}), separators=(",", ":"), ensure_ascii=False
    )
    if len(overrides) > MAX_OVERRIDES:
        return OVERRIDES_TOO_LONG
    propagated = request.get("propagateTags", definition.get("propagateTags", False))
    tags = {**definition.get("tags", {}), **request.get("tags", {})}
    return TOO_MANY_TAGS if propagated and len(tags) > MAX_TAGS else ""


def check_submission(request: Json, *, fair_share: bool, fargate: bool) -> None:
    """Raise the first problem for which the service refuses a request immediately."""
    size = len(json.dumps(request, separators=(",", ":")).encode())
    if size > MAX_PAYLOAD:
        raise client_error(f"Job size must be less than 30 KiB, got {size // 1024} KiB")
    for problem in (
        *_name(request),
        *_array(request),
        *_dependencies(request),
        *_container(request.get("containerOverrides", {}), fargate=fargate),
        *_retries(request.get("retryStrategy", {})),
        *_timeout(request.get("timeout", {})),
        *_tags(request.get("tags", {})),
        *_share(request, fair_share=fair_share),
    ):
        raise client_error(problem)


def check_definition(request: Json) -> None:
    """Raise the first problem for which the service refuses a job definition."""
    for problem in (
        *_container(
            request.get("containerProperties", {}),
            fargate="FARGATE" in request.get("platformCapabilities", ()),
        ),
        *_retries(request.get("retryStrategy", {})),
        *_timeout(request.get("timeout", {})),
        *_tags(request.get("tags", {})),
    ):
        raise client_error(problem)


def _name(request: Json) -> Iterator[str]:
    if not JOB_NAME.fullmatch(request.get("jobName", "")):
        yield (
            "Job name should match valid pattern: 1 to 128 letters, digits, hyphens and"
            " underscores, the first a letter or digit"
        )


def _array(request: Json) -> Iterator[str]:
    array = request.get("arrayProperties")
    if array is not None and array.get("size") not in ARRAY_SIZES:
        yield f"Array size must be between 2 and 10000, got {array.get('size')}"


def _dependencies(request: Json) -> Iterator[str]:
    needs = request.get("dependsOn", [])
    if len(needs) > MAX_DEPENDENCIES:
        yield f"Job cannot have more than {MAX_DEPENDENCIES} dependencies"
    for need in needs:
        kind = need.get("type")
        if kind not in {None, "N_TO_N", "SEQUENTIAL"}:
            yield f"unknown dependency type {kind}"
        if kind is not None and "arrayProperties" not in request:
            yield f"a {kind} dependency needs an array job"
        if kind == "SEQUENTIAL" and "jobId" in need:
            yield "a SEQUENTIAL dependency has no job id"
        if kind != "SEQUENTIAL" and not need.get("jobId"):
            yield "a dependency needs a job id"


def _container(container: Json, *, fargate: bool) -> Iterator[str]:
    if "" in container.get("command", []):
        yield "Container command must not contain empty strings"
    for entry in container.get("environment", []):
        if not entry.get("name") or not entry.get("value"):
            yield "Container environment must not contain empty strings"
    for entry in container.get("resourceRequirements", []):
        yield from _resource(entry.get("type"), entry.get("value"), fargate=fargate)


def _resource(kind: object, value: object, *, fargate: bool) -> Iterator[str]:
    if kind not in {"VCPU", "MEMORY", "GPU"}:
        yield f"resource type must be one of VCPU, MEMORY, GPU, got {kind}"
    elif kind == "GPU" and fargate:
        yield "GPU resources are not supported on Fargate"
    elif not isinstance(value, str) or not re.fullmatch(
        r"[0-9]*\.?[0-9]+" if kind == "VCPU" and fargate else "[1-9][0-9]*", value
    ):
        yield f"{kind} must be a positive number, got {value!r}"


def _retries(retry: Json) -> Iterator[str]:
    attempts, conditions = retry.get("attempts"), retry.get("evaluateOnExit", [])
    if attempts is not None and attempts not in ATTEMPTS:
        yield f"attempts must be between 1 and 10, got {attempts}"
    if conditions and attempts is None:
        yield "evaluateOnExit needs attempts"
    if len(conditions) > MAX_CONDITIONS:
        yield f"evaluateOnExit has at most {MAX_CONDITIONS} entries, got {len(conditions)}"
    for condition in conditions:
        if str(condition.get("action")).upper() not in {"RETRY", "EXIT"}:
            yield f"action must be RETRY or EXIT, got {condition.get('action')}"
        for key in _keys(condition):
            if not PATTERNS[key].fullmatch(condition[key]):
                yield f"{key} has an invalid pattern: {condition[key]!r}"


def _timeout(timeout: Json) -> Iterator[str]:
    seconds = timeout.get("attemptDurationSeconds")
    if seconds is not None and seconds < MIN_TIMEOUT:
        yield f"attemptDurationSeconds must be at least {MIN_TIMEOUT}, got {seconds}"


def _tags(tags: Json) -> Iterator[str]:
    if len(tags) > MAX_TAGS:
        yield f"Job cannot have more than {MAX_TAGS} tags"
    for key, value in tags.items():
        if not 1 <= len(key) <= 128 or key.lower().startswith("aws:"):
            yield f"tag key {key!r} is invalid"
        if len(value) > 256:
            yield f"the value of tag {key!r} is longer than 256 characters"


def _share(request: Json, *, fair_share: bool) -> Iterator[str]:
    share = request.get("shareIdentifier")
    if fair_share and share is None:
        yield "shareIdentifier must be specified: the job queue has a scheduling policy"
    if not fair_share and share is not None:
        yield "shareIdentifier must not be specified: the job queue has no scheduling policy"
    if share is not None and not SHARE.fullmatch(share):
        yield f"shareIdentifier {share!r} is invalid"
    priority = request.get("schedulingPriorityOverride")
    if priority is not None and priority not in PRIORITIES:
        yield f"schedulingPriorityOverride must be between 0 and 9999, got {priority}"
