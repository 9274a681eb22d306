"""Environment variables by which rvrun's own processes talk to each other; none is a setting.

The Makefile and the runners set them, the worker of a target reads and removes them.
"""

from __future__ import annotations

#: The run directory that records go to; unset: the target leaves no record.
RUN_DIR = "RVRUN_RUN_DIR"
#: Set: the target's output goes to its log in the run directory.
LOGS = "RVRUN_LOGS"
#: The file descriptor of a pipe on which targets report that they start and end.
EVENTS = "RVRUN_EVENTS"
#: The file descriptor of the lock of the run directory.
LOCK = "RVRUN_LOCK"
#: How verbose other systems' pipelines are: 1, 2, ...
VERBOSITY = "RVRUN_VERBOSITY"
#: The splits that the children of a job run, where these are not all of 0..N-1 (`split_ranges`).
SPLITS = "RVRUN_SPLITS"
#: The file that lists the hosts of a job, where it is not in its usual place.
RESOURCE_CONFIG = "RVRUN_RESOURCE_CONFIG"
#: Set: the target is in a container already, so that its program gets none of its own.
IN_CONTAINER = "RVRUN_IN_CONTAINER"
#: The folder of a warm worker (`warm.protocol`); unset: there is none.
WARM = "RVRUN_WARM"
#: The interpreter that runs a target where no warm worker does.
PYTHON = "RVRUN_PYTHON"
#: Those that are also for what a target starts, such as another make.
PASSED_ON = (WARM, PYTHON)
#: Those that are for a target alone. Every other `RVRUN_*` variable is a setting.
INTERNAL = (RUN_DIR, LOGS, EVENTS, LOCK, VERBOSITY, SPLITS, RESOURCE_CONFIG, IN_CONTAINER)
