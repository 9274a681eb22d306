"""What AWS Batch does not take, found before the first call; all of it at once. Pure.

Sources: the AWS Batch User Guide, "Service quotas" and "Job definition parameters"; the AWS Batch
API Reference, SubmitJob; the AWS General Reference, "Tagging". botocore's model knows the keys and
types of a request (`shapes`), but none of these.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterator, Mapping
from typing import Any

from rvrun.aws import request_check as shapes
from rvrun.remote.ledger import ID_EXTRA
from rvrun.runners.batch.jobs import MAX_ARRAY, MAX_DEPENDENCIES
from rvrun.runners.problems import is_secret

#: Stands for the run's id in a spec, as `${KEY}` does for the id of another job.
RUN = "${run}"
MAX_NAME = 128
#: What a retry adds to a job's name; and how long the ids of jobs are.
RETRY_EXTRA, ID_LENGTH = len("-r99"), 36
MAX_OVERRIDES = 8_192
MAX_PAYLOAD = 30 * 1024
MAX_ATTEMPTS = 10
MAX_EVALUATIONS = 5
MIN_TIMEOUT = 60
MAX_PRIORITY = 9_999
MAX_SHARE = 255
MAX_TAGS, MAX_TAG_KEY, MAX_TAG_VALUE = 50, 128, 256
#: What may be in tags beside letters, digits and spaces, here and where Batch hands them on to.
TAG_SIGNS = "_.:/=+-@"
#: What Batch, and AWS as a whole, keep for themselves.
BATCH_PREFIX, AWS_PREFIX = "AWS_BATCH", "aws:"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
_SHARE = re.compile(rf"[A-Za-z0-9]{{1,{MAX_SHARE}}}\*?")


def check_types(key: str, request: Mapping[str, Any]) -> list[str]:
    """Each key and value of the request of the job `key` that SubmitJob knows not, as a sentence.

    Tags are left to `check_request`.
    """
    others = {name: value for name, value in request.items() if name != "tags"}
    return [f"{key}: {text}" for text in shapes.problems("batch", "SubmitJob", others)]


def check_request(key: str, request: Mapping[str, Any], run_name: str) -> list[str]:
    """Each thing that is wrong with the SubmitJob request of the job `key`, as a sentence.

    The request is a spec whose types are right. Its ids are still symbols, and its name is that in
    a run of `run_name`.
    """
    checks = (_array, _environment, _tries, _sharing, _tags)
    texts = [*_name(request, run_name), *(text for check in checks for text in check(request))]
    return [*(f"{key}: {text}" for text in texts), *check_sizes(key, request)]


def check_sizes(key: str, request: Mapping[str, Any]) -> list[str]:
    """What there is too much of in a request, as a sentence each."""
    return [f"{key}: {text}" for text in _sizes(request)]


def _name(request: Mapping[str, Any], run_name: str) -> Iterator[str]:
    name = request["jobName"].replace(RUN, run_name + "x" * ID_EXTRA)
    longest = len(name) + RETRY_EXTRA
    if longest > MAX_NAME:
        yield (
            f"the job's name has up to {longest} characters in a run named `{run_name}` and its "
            f"retries, and at most {MAX_NAME} are allowed; give a shorter --run-name, or a shorter "
            "pipeline name"
        )
    if not _NAME.fullmatch(name):
        yield f"job name {request['jobName']!r} holds other than letters, digits, `_` and `-`"


def _sizes(request: Mapping[str, Any]) -> Iterator[str]:
    overrides = len(_json(request.get("containerOverrides", {})))
    if overrides > MAX_OVERRIDES:
        yield (
            f"its command and environment have {overrides:,} characters as JSON, and at most "
            f"{MAX_OVERRIDES:,} are allowed; shorten `batch.environment`, or put what is long into "
            "the job definition"
        )
    payload = len(json.dumps(_with_ids(request)))
    if payload > MAX_PAYLOAD:
        yield f"the request has {payload:,} bytes, and at most {MAX_PAYLOAD:,} are allowed"
    depends = len(request.get("dependsOn", ()))
    if depends > MAX_DEPENDENCIES:
        yield f"it depends on {depends} jobs, and at most {MAX_DEPENDENCIES} are allowed"


def _with_ids(request: Mapping[str, Any]) -> dict[str, Any]:
    """The request as long as it will be with the ids of other jobs."""
    depends = [{**each, "jobId": "x" * ID_LENGTH} for each in request.get("dependsOn", ())]
    return {**request, "dependsOn": depends}


def _json(values: Any) -> str:
    return json.dumps(values, separators=(",", ":"), ensure_ascii=False)


def _array(request: Mapping[str, Any]) -> Iterator[str]:
    size = request.get("arrayProperties", {}).get("size", 2)
    if not 2 <= size <= MAX_ARRAY:
        yield f"array size {size:,} is not one of 2 to {MAX_ARRAY:,}"


def _environment(request: Mapping[str, Any]) -> Iterator[str]:
    overrides = request.get("containerOverrides", {})
    if "" in overrides.get("command", ()):
        yield "its command holds an empty text, which Batch does not take"
    for item in overrides.get("environment", ()):
        name, value = item.get("name", ""), item.get("value", "")
        if name.startswith(BATCH_PREFIX):
            yield f"Batch drops the environment variable `{name}`, for it begins with AWS_BATCH"
        if not name or not value:
            yield f"environment variable `{name}` is empty, which Batch does not take"
        if is_secret(name):
            yield (
                f"environment variable `{name}` looks like a secret, and everybody who may "
                "describe a job can read it; put it into `secrets` of the job definition"
            )


def _tries(request: Mapping[str, Any]) -> Iterator[str]:
    strategy = request.get("retryStrategy", {})
    attempts = strategy.get("attempts")
    if attempts is not None and not 1 <= attempts <= MAX_ATTEMPTS:
        yield f"{attempts} attempts are not one of 1 to {MAX_ATTEMPTS}"
    evaluations = len(strategy.get("evaluateOnExit", ()))
    if evaluations > MAX_EVALUATIONS:
        yield f"{evaluations} evaluateOnExit are more than {MAX_EVALUATIONS}"
    if evaluations and attempts is None:
        yield "evaluateOnExit needs attempts"
    timeout = request.get("timeout", {}).get("attemptDurationSeconds", MIN_TIMEOUT)
    if timeout < MIN_TIMEOUT:
        yield f"a timeout of {timeout} s is less than {MIN_TIMEOUT} s, the least that Batch takes"


def _sharing(request: Mapping[str, Any]) -> Iterator[str]:
    share = request.get("shareIdentifier", "x")
    if not _SHARE.fullmatch(share):
        yield (
            f"share identifier {share!r} is not up to {MAX_SHARE} letters and digits, which `*` "
            "may follow"
        )
    priority = request.get("schedulingPriorityOverride", 0)
    if not 0 <= priority <= MAX_PRIORITY:
        yield f"scheduling priority {priority} is not one of 0 to {MAX_PRIORITY}"


def _tags(request: Mapping[str, Any]) -> Iterator[str]:
    tags = request.get("tags", {})
    if len(tags) > MAX_TAGS:
        yield f"{len(tags)} tags, with rvrun's own, are more than {MAX_TAGS}"
    for key, value in tags.items():
        if key.lower().startswith(AWS_PREFIX):
            yield f"tag `{key}` begins with `aws:`, which AWS keeps for itself"
        if not 1 <= len(key) <= MAX_TAG_KEY:
            yield f"tag `{key}` has {len(key)} characters, and 1 to {MAX_TAG_KEY} are allowed"
        if len(value) > MAX_TAG_VALUE:
            yield (
                f"the value of tag `{key}` has {len(value)} characters, and at most "
                f"{MAX_TAG_VALUE} are allowed"
            )
        if not all(_is_tagged(char) for char in key + value.replace(RUN, "")):
            yield (
                f"tag `{key}` is {value!r}, and no more than letters, digits, spaces and "
                f"{TAG_SIGNS} are allowed"
            )


def _is_tagged(char: str) -> bool:
    return char in TAG_SIGNS or unicodedata.category(char)[0] in "LNZ"
