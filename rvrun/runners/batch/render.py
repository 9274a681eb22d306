"""Render a run: the specs of its jobs, and the files that the jobs read. Pure."""

from __future__ import annotations

import json

from rvrun.model import Plan
from rvrun.remote.ledger import run_name
from rvrun.remote.upload import check_roots, plan_upload, upload_paths
from rvrun.render import jinja
from rvrun.runners.batch.jobs import plan_jobs
from rvrun.runners.batch.settings import BatchSettings
from rvrun.runners.batch.spec_files import FOLDER, file_names
from rvrun.runners.batch.specs import Source, template_job
from rvrun.runners.batch.validate import SERVICE, TEMPLATE, check_rendered, check_settings
from rvrun.runners.run import Run
from rvrun.runners.submissions import notes
from rvrun.settings.overrides import check_globs
from rvrun.settings.sources import project_file

#: Where the content of each URI that jobs read is rendered, as a JSON object.
UPLOADS = f"{FOLDER}/uploads.json"
_TEMPLATE = jinja.Template("rvrun.templates", "batch", TEMPLATE)


def render(run: Run) -> dict[str, str]:
    """Return everything that submitting needs, as {relative path: text}.

    Raises `LocalRoot`, `NeedsPlugin` or `CannotReach` for pipelines whose jobs could not read their
    config, and what `render_specs` raises.
    """
    check_roots(run.planned, SERVICE)
    settings = run.settings.of(BatchSettings)
    uploads = {pipeline.name: plan_upload(pipeline, settings.worker) for pipeline in run.planned}
    source = Source(
        settings=settings,
        uploads=uploads,
        command_names=run.command_names,
        settings_file=project_file(),
        run_name=run_name(run.out, run.name),
        templates=run.settings.templates,
        verbosity=run.verbosity,
    )
    contents = {uri: text for upload in uploads.values() for uri, text in upload.files.items()}
    paths = upload_paths(contents, FOLDER)
    about = notes(run, uploads.values(), settings.worker)
    return {
        **render_specs(run.plan, source),
        **{paths[uri]: text for uri, text in contents.items()},
        **{f"{FOLDER}/{name}": text for name, text in about.items()},
        UPLOADS: json.dumps(paths, indent=2, ensure_ascii=False) + "\n",
    }


def render_specs(plan: Plan, source: Source) -> dict[str, str]:
    """Return the specs of `plan`, as {relative path: text} in the order of submission.

    Raises `NoMatch` for a glob of the settings that no command matches, `BadTemplate` and `BadSpec`
    for a user's template, `Unfit` for all else that Batch would refuse.
    """
    check_globs("batch.commands", source.settings.commands, source.command_names)
    jobs = plan_jobs(plan)
    check_settings(jobs, source)
    values = {job.key: template_job(job, source) for job in jobs}
    specs = {key: jinja.render(_TEMPLATE, source.templates, job=job) for key, job in values.items()}
    check_rendered(values, specs, source.run_name, source.settings.not_secret)
    return dict(zip(file_names(specs), specs.values(), strict=True))
