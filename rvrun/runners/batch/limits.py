"""AWS Batch's limits on requests, which botocore's model does not contain. Pure.

Sources: AWS Batch User Guide, "Service quotas" and "Job definition parameters"; AWS Batch API
Reference, SubmitJob; AWS General Reference, "Tagging".
"""

from __future__ import annotations

import contextlib
import json
import re
import unicodedata
from collections.abc import Collection, Iterator

from rvrun import split_ranges
from rvrun.environment import SPLITS
from rvrun.remote.ledger import ID_EXTRA
from rvrun.runners.batch.api import SubmitJobRequest
from rvrun.runners.batch.boot import for_split_list
from rvrun.runners.batch.jobs import MAX_ARRAY, MAX_DEPENDENCIES
from rvrun.runners.batch.spec_files import RUN
from rvrun.secret_marks import mark

#: Characters of a job's name, and how many of them a retry adds.
MAX_NAME, RETRY_EXTRA = 128, len("-r99")
#: Characters of a job's id.
ID_LENGTH = 36
#: Characters of the container overrides as compact JSON.
MAX_OVERRIDES = 8_192
#: Bytes of a request.
MAX_PAYLOAD = 30 * 1024
#: What is added to the requests of arrays before their size is checked.
RESERVED = "the list of splits that a retry may need"
MAX_ATTEMPTS = 10
#: Conditions of a retry strategy.
MAX_CONDITIONS = 5
#: Seconds of an attempt.
MIN_TIMEOUT = 60
MAX_PRIORITY = 9_999
#: Characters of a share identifier.
MAX_SHARE = 255
#: How many tags a job has, and characters of their names and values.
MAX_TAGS, MAX_TAG_NAME, MAX_TAG_VALUE = 50, 128, 256
#: What tags may contain besides letters, digits and spaces, in Batch and where it propagates them.
TAG_SIGNS = "_.:/=+-@"
#: Prefixes that Batch, and AWS as a whole, reserve.
BATCH_PREFIX, AWS_PREFIX = "AWS_BATCH", "aws:"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
_SHARE = re.compile(rf"[A-Za-z0-9]{{1,{MAX_SHARE}}}\*?")


def check_request(
    key: str, request: SubmitJobRequest, run_name: str, not_secret: Collection[str] = ()
) -> list[str]:
    """Return a sentence for everything that Batch would refuse in the spec of the job `key`.

    Secrets are reported too, except in the variables and tags in `not_secret`.

    - `request`: its types are right, and it contains placeholders.
    - `run_name`: of the run in which it would be submitted; job names contain it.
    """
    checks = (_array, _environment, _retries, _sharing, _tags)
    problems = [*_name(request, run_name), *(text for check in checks for text in check(request))]
    problems += secrets_in(request, not_secret)
    return [
        *(f"{key}: {text}" for text in problems),
        *check_sizes(key, as_in_retries(request), RESERVED),
    ]


def as_in_retries(request: SubmitJobRequest) -> SubmitJobRequest:
    """Return the request of an array with the longest list of splits that a retry may need.

    Otherwise a run close to the limits could be submitted but not retried.
    """
    overrides = request.get("containerOverrides", {})
    size = request.get("arrayProperties", {}).get("size")
    if "--num-splits" not in overrides.get("command", ()) or size is None:
        return request
    entries = overrides.get("environment", ())
    listed = [entry.get("value", "") for entry in entries if entry.get("name") == SPLITS]
    last = size - 1
    # A user's template may render another list, which is refused elsewhere.
    with contextlib.suppress(ValueError):
        last = max([last, *(split_ranges.read(text)[-1] for text in listed)])
    text = "x" * split_ranges.max_length(last, size)
    return {**request, "containerOverrides": for_split_list(overrides, text)}


def check_sizes(key: str, request: SubmitJobRequest, reserved: str = "") -> list[str]:
    """Return a sentence for everything that is too large in the spec of the job `key`.

    - `reserved`: what the request contains in addition to its spec.
    """
    return [f"{key}: {text}" for text in _sizes(request, reserved)]


def _name(request: SubmitJobRequest, run_name: str) -> Iterator[str]:
    name = request["jobName"].replace(RUN, run_name + "x" * ID_EXTRA)
    longest = len(name) + RETRY_EXTRA
    if longest > MAX_NAME:
        yield (
            f"job names must have at most {MAX_NAME} characters, got {longest} in a run named "
            f"`{run_name}` and its retries; use a shorter --run-name, or a shorter pipeline name"
        )
    if not _NAME.fullmatch(name):
        yield (
            "job names must contain only letters, digits, `_` and `-`, and begin with a letter or "
            f"digit, got {request['jobName']!r}"
        )


def _sizes(request: SubmitJobRequest, reserved: str) -> Iterator[str]:
    is_array = "arrayProperties" in request
    more = f" with {reserved}" if reserved and is_array else ""
    overrides = len(
        json.dumps(request.get("containerOverrides", {}), separators=(",", ":"), ensure_ascii=False)
    )
    if overrides > MAX_OVERRIDES:
        yield (
            f"command and environment must have at most {MAX_OVERRIDES:,} characters as JSON, got "
            f"{overrides:,}{more}; shorten `batch.environment`, or move long values to the job "
            "definition"
        )
    # As large as it will be with real ids in place of the placeholders.
    depends = [
        {**dependency, "jobId": "x" * ID_LENGTH} for dependency in request.get("dependsOn", ())
    ]
    payload = len(json.dumps({**request, "dependsOn": depends}))
    if payload > MAX_PAYLOAD:
        yield f"the request must have at most {MAX_PAYLOAD:,} bytes, got {payload:,}{more}"
    if len(depends) > MAX_DEPENDENCIES:
        yield f"a job must have at most {MAX_DEPENDENCIES} dependencies, got {len(depends)}"


def _array(request: SubmitJobRequest) -> Iterator[str]:
    size = request.get("arrayProperties", {}).get("size", 2)
    if not 2 <= size <= MAX_ARRAY:
        yield f"array size must be between 2 and {MAX_ARRAY:,}, got {size:,}"


def _environment(request: SubmitJobRequest) -> Iterator[str]:
    overrides = request.get("containerOverrides", {})
    if "" in overrides.get("command", ()):
        yield "command must not contain empty strings"
    for variable in overrides.get("environment", ()):
        name = variable.get("name", "")
        if name.startswith(BATCH_PREFIX):
            yield (
                f"environment variable names must not begin with {BATCH_PREFIX}, got `{name}`, "
                "which Batch would drop; rename it"
            )
        if not name or not variable.get("value", ""):
            yield f"environment variable `{name}` must not be empty; set a value, or remove it"


def secrets_in(request: SubmitJobRequest, not_secret: Collection[str]) -> Iterator[str]:
    """Yield a sentence for each environment variable and tag that looks like a secret."""
    override = "or add its name to `batch.not_secret` if it is not one"
    for variable in request.get("containerOverrides", {}).get("environment", ()):
        name, value = variable.get("name", ""), variable.get("value", "")
        if name not in not_secret and (why := mark(name, value)):
            yield (
                f"environment variable `{name}` {why}, which everybody who can "
                f"describe the job can read; move it to `secrets` in the job definition, {override}"
            )
    for name, value in request["tags"].items():
        if name not in not_secret and (why := mark(name, value)):
            yield (
                f"tag `{name}` {why}, which everybody who can describe the job can "
                f"read; remove it, {override}"
            )


def _retries(request: SubmitJobRequest) -> Iterator[str]:
    strategy = request.get("retryStrategy", {})
    attempts = strategy.get("attempts")
    if attempts is not None and not 1 <= attempts <= MAX_ATTEMPTS:
        yield f"attempts must be between 1 and {MAX_ATTEMPTS}, got {attempts}"
    conditions = len(strategy.get("evaluateOnExit", ()))
    if conditions > MAX_CONDITIONS:
        yield f"evaluateOnExit must have at most {MAX_CONDITIONS} entries, got {conditions}"
    if conditions and attempts is None:
        yield "evaluateOnExit requires attempts"
    timeout = request.get("timeout", {}).get("attemptDurationSeconds", MIN_TIMEOUT)
    if timeout < MIN_TIMEOUT:
        yield f"timeout must be at least {MIN_TIMEOUT} s, got {timeout} s"


def _sharing(request: SubmitJobRequest) -> Iterator[str]:
    share = request.get("shareIdentifier")
    if share is not None and not _SHARE.fullmatch(share):
        yield (
            f"share identifier must have 1 to {MAX_SHARE} letters and digits, and may end with "
            f"`*`, got {share!r}"
        )
    priority = request.get("schedulingPriorityOverride", 0)
    if not 0 <= priority <= MAX_PRIORITY:
        yield f"scheduling priority must be between 0 and {MAX_PRIORITY}, got {priority}"


def _tags(request: SubmitJobRequest) -> Iterator[str]:
    tags = request["tags"]
    if len(tags) > MAX_TAGS:
        yield f"a job must have at most {MAX_TAGS} tags, with rvrun's own, got {len(tags)}"
    for name, value in tags.items():
        if name.lower().startswith(AWS_PREFIX):
            yield f"tag names must not begin with `{AWS_PREFIX}`, got `{name}`"
        if not 1 <= len(name) <= MAX_TAG_NAME:
            yield f"tag names must have 1 to {MAX_TAG_NAME} characters, got {len(name)}: `{name}`"
        if len(value) > MAX_TAG_VALUE:
            yield (
                f"tag values must have at most {MAX_TAG_VALUE} characters, got {len(value)} for "
                f"`{name}`"
            )
        if not all(_is_allowed_in_tags(char) for char in name + value.replace(RUN, "")):
            yield (
                f"tags must contain only letters, digits, spaces and {TAG_SIGNS}, got {value!r} "
                f"for `{name}`"
            )


def _is_allowed_in_tags(char: str) -> bool:
    return char in TAG_SIGNS or unicodedata.category(char)[0] in "LNZ"
