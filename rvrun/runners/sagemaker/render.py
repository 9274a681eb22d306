"""The files of a run on SageMaker: plan, steps, definitions, files. Pure.

Everything that SageMaker would refuse is reported in one error.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rvrun.remote.ledger import run_name
from rvrun.remote.upload import check_roots, plan_upload
from rvrun.runners.problems import check_fit
from rvrun.runners.run import Run
from rvrun.runners.sagemaker.definition import create_request, find_problems, render_definition
from rvrun.runners.sagemaker.files import FOLDER, RenderedPipeline, render_files
from rvrun.runners.sagemaker.machine import find_missing
from rvrun.runners.sagemaker.quota import quota_problems
from rvrun.runners.sagemaker.settings import SagemakerSettings
from rvrun.runners.sagemaker.steps import JobContext, SagemakerPipeline, plan_steps
from rvrun.runners.submissions import notes
from rvrun.settings.overrides import check_globs, matches
from rvrun.settings.sources import project_file

SERVICE = "SageMaker Pipelines"


def render(run: Run) -> dict[str, str]:
    """Return the files of `run` by relative path: the definitions, and what their jobs read.

    Raises `LocalRoot`, `NoMatch`, `BadTemplate`, or `Unfit` with everything else that SageMaker
    would refuse.
    """
    check_roots(run.planned, SERVICE)
    settings = run.settings.of(SagemakerSettings)
    check_globs("sagemaker.commands", settings.commands, run.command_names)
    name, contexts = run_name(run.out, run.name), job_contexts(run)
    pipelines = [
        RenderedPipeline(
            pipeline=pipeline,
            definition=render_definition(pipeline, settings, run.settings.templates),
            request=create_request(pipeline, settings),
            root_uri=contexts[pipeline.pipelines[0]].root_uri,
        )
        for pipeline in plan_steps(run.plan, settings, contexts, name)
    ]
    check_fit(
        SERVICE,
        [
            *find_missing(run.plan, settings, project_file()),
            *_setting_problems(settings, run.command_names),
            *_name_conflicts([rendered.pipeline for rendered in pipelines]),
            *quota_problems(run.plan, settings, contexts, name),
            *(
                problem
                for rendered in pipelines
                for problem in find_problems(
                    rendered.definition, rendered.request, settings.not_secret
                )
            ),
        ],
    )
    uploads = [context.upload for context in contexts.values()]
    contents = {uri: text for upload in uploads for uri, text in upload.files.items()}
    extra = notes(run, uploads, settings.worker)
    return {
        **render_files(pipelines, contents),
        **{f"{FOLDER}/{name}": text for name, text in extra.items()},
    }


def job_contexts(run: Run) -> dict[str, JobContext]:
    """Return what the jobs of each pipeline share, by the pipeline's name."""
    worker = run.settings.of(SagemakerSettings).worker
    return {
        pipeline.name: JobContext(
            upload=plan_upload(pipeline, worker),
            root_uri=pipeline.root_uri,
            verbosity=run.verbosity,
        )
        for pipeline in run.planned
    }


def _name_conflicts(pipelines: Sequence[SagemakerPipeline]) -> Iterator[str]:
    """Pipelines whose names differ only in characters that SageMaker does not accept."""
    for name in dict.fromkeys(pipeline.name for pipeline in pipelines):
        same = [pipeline.pipelines[0] for pipeline in pipelines if pipeline.name == name]
        if len(same) > 1:
            names = ", ".join(f"`{own_name}`" for own_name in same)
            yield (
                f"names of SageMaker pipelines must be unique, but {names} all become `{name}`; "
                'rename one, or remove `sagemaker.definitions = "each"`'
            )


def _setting_problems(settings: SagemakerSettings, commands: Sequence[str]) -> Iterator[str]:
    """Settings without effect: a shared name if nothing is shared, a glob that matches nothing."""
    if settings.definitions == "each" and settings.pipeline_name is not None:
        yield (
            f"`sagemaker.pipeline_name` ({settings.pipeline_name!r}) conflicts with "
            '`sagemaker.definitions = "each"`, which names each definition after its pipeline; '
            "remove one of them"
        )
    # A pipeline need not train, so the default need not match.
    if settings.train_commands == SagemakerSettings().train_commands:
        return
    for glob in settings.train_commands:
        if not any(matches(glob, name) for name in commands):
            names = ", ".join(f"`{name}`" for name in commands)
            yield f"`sagemaker.train_commands`: {glob!r} matches no command; commands: {names}"
