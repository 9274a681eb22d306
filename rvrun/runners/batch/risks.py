"""Jobs that Batch may attempt twice although they must be attempted once."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

from rvrun.runners.batch.spec_files import FOLDER, JOB_TAG, requests_in, stage_of
from rvrun.runners.submissions import ONCE, second_attempt


def risks(files: Mapping[str, str]) -> Iterator[str]:
    """Warn about jobs that Batch may attempt twice although they must be attempted once.

    Retrying only after a reclaimed instance is not a risk: a killed job has written nothing.
    """
    if (text := files.get(f"{FOLDER}/{ONCE}")) is None:
        return
    effects = json.loads(text)
    for request in requests_in(files):
        stage = stage_of(request["tags"][JOB_TAG])
        strategy = request.get("retryStrategy", {})
        attempts = strategy.get("attempts", 1)
        if stage in effects and attempts > 1 and "evaluateOnExit" not in strategy:
            yield (
                f"{second_attempt(stage, effects[stage])}, and its jobs have up to {attempts} "
                'attempts; install rvrun in the image and set `batch.worker = "rvrun"`, or set '
                f'`attempts = 1` in [batch.commands."{stage}"]'
            )
