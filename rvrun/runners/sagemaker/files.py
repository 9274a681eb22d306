"""What a run directory holds for SageMaker, written and read back. Knows JSON, nothing of AWS.

sagemaker/NAME.definition.json   the pipeline definition, as a person reads it
sagemaker/NAME.request.json      the CreatePipeline request, but for definition and token
sagemaker/NAME.steps.json        which targets each of its jobs runs
sagemaker/uploads.json           what goes to S3: {URI: path}; the files are in uploads/
"""

from __future__ import annotations

import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from rvrun import split_ranges as indices
from rvrun.aws import storage
from rvrun.remote.upload import short_digest, upload_paths
from rvrun.runners.sagemaker import limits
from rvrun.runners.sagemaker.definition import compact
from rvrun.runners.sagemaker.steps import Definition

FOLDER = "sagemaker"
UPLOADS = f"{FOLDER}/uploads.json"
_REQUEST, _DEFINITION, _STEPS = ".request.json", ".definition.json", ".steps.json"


@attrs.frozen(kw_only=True)
class Written:
    """One pipeline as it is to be written.

    - `request`: for CreatePipeline, but for the definition and a token.
    - `root_uri`: below it the definition goes that is too long to be sent.
    """

    definition: Definition
    values: Mapping[str, Any]
    request: Mapping[str, Any]
    root_uri: str


@attrs.frozen(kw_only=True)
class Job:
    """A step that is a job: the stage that it is of, and which splits it runs; None for no split.

    Where it has several splits, each is an instance.
    """

    name: str
    stage: str
    splits: tuple[int, ...] | None

    @property
    def targets(self) -> tuple[str, ...]:
        """The names of its targets, in the order of its instances."""
        if self.splits is None:
            return (self.stage,)
        return tuple(f"{self.stage}/{split}" for split in self.splits)


@attrs.frozen(kw_only=True)
class Submission:
    """One pipeline as it was written: what is asked of SageMaker, and the jobs in it."""

    name: str
    request: Mapping[str, Any]
    jobs: tuple[Job, ...]


def write_files(written: Sequence[Written], shipped: Mapping[str, str]) -> dict[str, str]:
    """The files of a run directory, by relative path; `shipped` are texts that go to S3, by URI."""
    files: dict[str, str] = {}
    uploads = dict(shipped)
    for each in written:
        request, long = _request(each)
        uploads.update(long)
        base = f"{FOLDER}/{each.definition.name}"
        files[base + _DEFINITION] = _text(each.values)
        files[base + _REQUEST] = _text(request)
        files[base + _STEPS] = _text({step.name: _job(step) for step in each.definition.jobs()})
    paths = upload_paths(uploads, FOLDER)
    files.update({paths[uri]: text for uri, text in uploads.items()})
    return {**files, UPLOADS: _text(paths)}


def _request(written: Written) -> tuple[dict[str, Any], dict[str, str]]:
    """The request, and what must be in S3 for it: a definition that is too long to be sent."""
    text = compact(written.values)
    if len(text) <= limits.INLINE_CHARACTERS:
        return dict(written.request), {}
    name = f"{written.definition.name}-{short_digest(text.encode())}.json"
    uri = storage.join(written.root_uri, "rvrun", "definitions", name)
    bucket, key = storage.split_s3(uri)
    place = {"Bucket": bucket, "ObjectKey": key}
    return {**written.request, "PipelineDefinitionS3Location": place}, {uri: text}


def _job(step: Any) -> dict[str, Any]:
    return {"stage": step.stage, "splits": indices.write(step.splits) if step.splits else None}


def _text(values: Any) -> str:
    return json.dumps(values, indent=2, ensure_ascii=False) + "\n"


def read_submissions(folder: pathlib.Path) -> list[Submission]:
    """The pipelines in a folder that `write_files` filled, by name."""
    paths = sorted((folder / FOLDER).glob(f"*{_REQUEST}"))
    return [_submission(path, path.name.removesuffix(_REQUEST)) for path in paths]


def _submission(path: pathlib.Path, name: str) -> Submission:
    request = _read(path)
    if "PipelineDefinitionS3Location" not in request:
        request["PipelineDefinition"] = compact(_read(path.with_name(name + _DEFINITION)))
    jobs = _read(path.with_name(name + _STEPS))
    return Submission(
        name=name,
        request=request,
        jobs=tuple(
            Job(
                name=step,
                stage=said["stage"],
                splits=tuple(indices.read(said["splits"])) if said["splits"] else None,
            )
            for step, said in jobs.items()
        ),
    )


def read_uploads(folder: pathlib.Path) -> dict[str, bytes]:
    """What goes to S3, by URI."""
    paths = _read(folder / UPLOADS)
    return {uri: (folder / path).read_bytes() for uri, path in paths.items()}


def _read(path: pathlib.Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return values
