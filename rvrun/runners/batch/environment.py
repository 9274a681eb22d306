"""What AWS Batch passes to a job (AWS Batch User Guide, "Job environment variables")."""

from __future__ import annotations

from rvrun.inputs import parse_integer
from rvrun.runners.array_index import read_index

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

#: The index of a child in its array, from 0; not set in plain jobs.
ARRAY_INDEX = "AWS_BATCH_JOB_ARRAY_INDEX"
#: The attempt of the job, from 1.
ATTEMPT = "AWS_BATCH_JOB_ATTEMPT"


def split_index(environ: Mapping[str, str]) -> int | None:
    """Return this job's index in its array; None for a plain job. Raises `BadIndex`."""
    return read_index(environ, ARRAY_INDEX)


def attempt(environ: Mapping[str, str]) -> int:
    """Return which attempt of the job this is, from 1."""
    return parse_integer(environ.get(ATTEMPT, "")) or 1
