"""The files of a run directory for SageMaker: rendered, and read back. No calls to AWS.

sagemaker/NAME.definition.json   the pipeline definition, indented
sagemaker/NAME.request.json      the CreatePipeline request, without definition and token
sagemaker/NAME.steps.json        which targets each job runs
sagemaker/uploads.json           what to upload to S3: {URI: path}; the files are in uploads/
"""

from __future__ import annotations

import pathlib
from collections.abc import Mapping, Sequence

import attrs

from rvrun import split_ranges
from rvrun.aws import storage
from rvrun.inputs import read_bytes, read_object
from rvrun.remote.ledger import RESTORE, reading
from rvrun.remote.upload import short_digest, upload_paths
from rvrun.render.files import to_text
from rvrun.runners.sagemaker import limits
from rvrun.runners.sagemaker.definition import Definition, Request, to_compact_json
from rvrun.runners.sagemaker.steps import SagemakerPipeline, Step

FOLDER = "sagemaker"
UPLOADS = f"{FOLDER}/uploads.json"
_REQUEST, _DEFINITION, _STEPS = ".request.json", ".definition.json", ".steps.json"


@attrs.frozen(kw_only=True)
class RenderedPipeline:
    """A SageMaker pipeline with its JSON.

    - `request`: for CreatePipeline, without the definition and a token.
    - `root_uri`: below it goes a definition that is too large for the request.
    """

    pipeline: SagemakerPipeline
    definition: Definition
    request: Request
    root_uri: str


@attrs.frozen(kw_only=True)
class Job:
    """A step that is a job, as read back.

    - `splits`: the indices that it runs, one per instance; None for a stage that is not split.
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
    """A SageMaker pipeline as read back.

    - `request`: for CreatePipeline, without a token.
    """

    name: str
    request: Request
    jobs: tuple[Job, ...]

    @property
    def parallelism(self) -> Request:
        """The part of a request to start or retry it that says how many steps run in parallel.

        Each such request overrides what the pipeline says, which someone may have changed (Amazon
        SageMaker API Reference, StartPipelineExecution). Empty for runs of earlier versions.
        """
        key = "ParallelismConfiguration"
        return {key: self.request[key]} if key in self.request else {}


def render_files(
    pipelines: Sequence[RenderedPipeline], contents: Mapping[str, str]
) -> dict[str, str]:
    """Return the files of a run directory by relative path; `contents` are uploads by URI."""
    files: dict[str, str] = {}
    uploads = dict(contents)
    for rendered in pipelines:
        request, definition_upload = _place_definition(rendered)
        uploads |= definition_upload
        base = f"{FOLDER}/{rendered.pipeline.name}"
        files[base + _DEFINITION] = to_text(rendered.definition)
        files[base + _REQUEST] = to_text(request)
        jobs = {step.name: _job_json(step) for step in rendered.pipeline.jobs()}
        files[base + _STEPS] = to_text(jobs)
    paths = upload_paths(uploads, FOLDER)
    files |= {paths[uri]: content for uri, content in uploads.items()}
    return {**files, UPLOADS: to_text(paths)}


def _place_definition(rendered: RenderedPipeline) -> tuple[Request, dict[str, str]]:
    """The request, and the upload by URI of a definition that is too large to be part of it."""
    text = to_compact_json(rendered.definition)
    if len(text.encode()) < limits.INLINE_BYTES:
        return rendered.request, {}
    name = f"{rendered.pipeline.name}-{short_digest(text.encode())}.json"
    uri = storage.join(rendered.root_uri, "rvrun", "definitions", name)
    bucket, key = storage.split_s3(uri)
    location = {"Bucket": bucket, "ObjectKey": key}
    return {**rendered.request, "PipelineDefinitionS3Location": location}, {uri: text}


def _job_json(step: Step) -> dict[str, str | None]:
    splits = split_ranges.write(step.splits) if step.splits else None
    return {"stage": step.stage, "splits": splits}


def read_submissions(folder: pathlib.Path) -> list[Submission]:
    """Read the pipelines in a folder with the files of `render_files`, sorted by name."""
    paths = sorted((folder / FOLDER).glob(f"*{_REQUEST}"))
    return [_read_submission(path, path.name.removesuffix(_REQUEST)) for path in paths]


def _read_submission(path: pathlib.Path, name: str) -> Submission:
    request = read_object(str(path), RESTORE)
    if "PipelineDefinitionS3Location" not in request:
        definition = read_object(str(path.with_name(name + _DEFINITION)), RESTORE)
        request["PipelineDefinition"] = to_compact_json(definition)
    steps = path.with_name(name + _STEPS)
    jobs = read_object(str(steps), RESTORE)
    with reading(str(steps)):
        return Submission(
            name=name,
            request=request,
            jobs=tuple(
                Job(
                    name=step,
                    stage=job["stage"],
                    splits=tuple(split_ranges.read(job["splits"])) if job["splits"] else None,
                )
                for step, job in jobs.items()
            ),
        )


def read_uploads(folder: pathlib.Path) -> dict[str, bytes]:
    """Read what to upload to S3, by URI."""
    uploads = str(folder / UPLOADS)
    paths = read_object(uploads, RESTORE)
    with reading(uploads):
        return {uri: read_bytes(str(folder / path), RESTORE) for uri, path in paths.items()}
