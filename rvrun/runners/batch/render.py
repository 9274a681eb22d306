"""The files of a run on AWS Batch: specs, and what the jobs read. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from rvrun.remote.ledger import run_name
from rvrun.remote.upload import check_roots, plan_upload, upload_paths
from rvrun.runners.batch.settings import BatchSettings
from rvrun.runners.batch.specs import FOLDER, Source, render_specs
from rvrun.runners.batch.submit import (
    is_spec,
)
from rvrun.runners.run import Run
from rvrun.runners.submissions import notes
from rvrun.settings.sources import project_file

UPLOADS = f"{FOLDER}/uploads.json"


def render(run: Run) -> dict[str, str]:
    """Return the specs, and what the jobs read: everything that submitting needs."""
    check_roots(run.planned, "AWS Batch")
    settings = run.settings.of(BatchSettings)
    uploads = {pipeline.name: plan_upload(pipeline, settings.worker) for pipeline in run.planned}
    source = Source(
        settings=settings,
        uploads=uploads,
        names=run.command_names,
        settings_file=project_file(),
        run_name=run_name(run.out, run.name),
        templates=run.settings.templates,
        verbosity=run.verbosity,
    )
    files = render_specs(run.plan, source)
    contents = {uri: text for upload in uploads.values() for uri, text in upload.files.items()}
    paths = upload_paths(contents, FOLDER)
    files |= {paths[uri]: text for uri, text in contents.items()}
    about = notes(run, uploads.values(), settings.worker)
    files |= {f"{FOLDER}/{name}": text for name, text in about.items()}
    return {**files, UPLOADS: json.dumps(paths, indent=2, ensure_ascii=False) + "\n"}


def requests_in(files: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    return (json.loads(text) for path, text in files.items() if is_spec(path))
