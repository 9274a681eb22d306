"""What Slurm passes to a job (sbatch(1), "OUTPUT ENVIRONMENT VARIABLES")."""

from __future__ import annotations

from rvrun.inputs import parse_integer
from rvrun.runners.array_index import read_index

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

#: The index of a task in its array; not set in other jobs.
ARRAY_INDEX = "SLURM_ARRAY_TASK_ID"
#: How often the job was requeued; not set in its first attempt.
RESTARTS = "SLURM_RESTART_COUNT"


def split_index(environ: Mapping[str, str]) -> int | None:
    """Return this job's index in its array; None if it is not in one. Raises `BadIndex`."""
    return read_index(environ, ARRAY_INDEX)


def attempt(environ: Mapping[str, str]) -> int:
    """Return which attempt of the job this is, from 1."""
    return 1 + (parse_integer(environ.get(RESTARTS, "")) or 0)
