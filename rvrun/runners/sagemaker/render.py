"""The files of a run on SageMaker: definitions, requests, and what the jobs read. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rvrun.remote.ledger import run_name
from rvrun.remote.upload import check_roots, plan_upload
from rvrun.runners.problems import check_fit
from rvrun.runners.run import Run
from rvrun.runners.sagemaker.definition import problems, render_definition, request
from rvrun.runners.sagemaker.files import (
    FOLDER,
    Written,
    write_files,
)
from rvrun.runners.sagemaker.machine import missing
from rvrun.runners.sagemaker.quota import quota_problems
from rvrun.runners.sagemaker.settings import SagemakerSettings
from rvrun.runners.sagemaker.steps import Definition, Place, definitions
from rvrun.runners.submissions import notes
from rvrun.settings.overrides import check_globs, matches
from rvrun.settings.sources import project_file


def render(run: Run) -> dict[str, str]:
    """The definitions, and what their jobs read: all that is needed to start them.

    Raises `LocalRoot`, `NoMatch`, or `Unfit` with all else that SageMaker would refuse.
    """
    check_roots(run.planned, "SageMaker Pipelines")
    settings = run.settings.of(SagemakerSettings)
    names, name = run.command_names, run_name(run.out, run.name)
    check_globs("sagemaker.commands", settings.commands, names)
    places = places_of(run)
    uploads = [place.upload for place in places.values()]
    written = [
        _write(definition, run, places[definition.pipelines[0]].root_uri)
        for definition in definitions(run.plan, settings, places, name)
    ]
    check_fit(
        "SageMaker Pipelines",
        [
            *missing(run.plan, settings, project_file()),
            *_setting_problems(settings, names),
            *_same_names([each.definition for each in written]),
            *quota_problems(run.plan, settings, places, name),
            *(found for each in written for found in problems(each.values, each.request)),
        ],
    )
    contents = {uri: text for upload in uploads for uri, text in upload.files.items()}
    about = notes(run, uploads, settings.worker)
    return {
        **write_files(written, contents),
        **{f"{FOLDER}/{name}": text for name, text in about.items()},
    }


def places_of(run: Run) -> dict[str, Place]:
    """Return, by pipeline, what jobs read and where they write."""
    worker = run.settings.of(SagemakerSettings).worker
    return {
        pipeline.name: Place(
            upload=plan_upload(pipeline, worker),
            root_uri=pipeline.root_uri,
            verbosity=run.verbosity,
        )
        for pipeline in run.planned
    }


def _write(definition: Definition, run: Run, root_uri: str) -> Written:
    settings = run.settings.of(SagemakerSettings)
    return Written(
        definition=definition,
        values=render_definition(definition, settings, run.settings.templates),
        request=request(definition, settings),
        root_uri=root_uri,
    )


def _same_names(found: Sequence[Definition]) -> Iterator[str]:
    """Pipelines whose names differ in no more than what SageMaker does not take."""
    names = [definition.name for definition in found]
    for name in dict.fromkeys(names):
        same = [each.pipelines[0] for each in found if each.name == name]
        if len(same) > 1:
            yield (
                f"pipelines {', '.join(f'`{each}`' for each in same)} would all be named {name!r}; "
                'rename one, or leave out `sagemaker.definitions = "each"`'
            )


def _setting_problems(settings: SagemakerSettings, names: Sequence[str]) -> Iterator[str]:
    """Settings that say nothing: a name for what has several, a command that is none."""
    if settings.definitions == "each" and settings.pipeline_name is not None:
        yield (
            f"`sagemaker.pipeline_name` is {settings.pipeline_name!r}, and with "
            '`sagemaker.definitions = "each"` every pipeline has its own name: leave one out'
        )
    for glob in settings.train_commands:
        # A pipeline need not train, so what nobody said need not match.
        is_said = settings.train_commands != SagemakerSettings().train_commands
        if is_said and not any(matches(glob, name) for name in names):
            known = ", ".join(f"`{name}`" for name in names)
            yield f"`sagemaker.train_commands` has {glob!r}, which matches no command: {known}"
