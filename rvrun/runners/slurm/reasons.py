"""Why a job waits or ended, in words: Slurm's own word comes first, for searching its manual."""

from __future__ import annotations

import pathlib

from rvrun import paths
from rvrun.rundir.records import last_attempt
from rvrun.runners.slurm.jobs import Job
from rvrun.runners.slurm.queue import Task

#: Reasons for waiting (squeue(1), "JOB REASON CODES"), by how they begin.
WAITING = {
    "Resources": "the nodes that it needs are busy",
    "Priority": "jobs with a higher priority wait, too",
    "JobArrayTaskLimit": "as many tasks of the array run as `max_running` allows",
    "ReqNodeNotAvail": "the nodes that it needs are drained, down or reserved",
    "Nodes required for job are DOWN": "the nodes that it needs are drained, down or reserved",
    "PartitionDown": "the partition is down",
    "PartitionInactive": "the partition is inactive",
    "PartitionTimeLimit": "its time limit exceeds the partition's; lower `time` and run it again",
    "PartitionNodeLimit": "it needs more nodes than the partition allows",
    "BadConstraints": "no node has what it requests; change the settings and run it again",
    "AccountNotAllowed": "the account must not use the partition",
    "QOSNotAllowed": "the partition does not allow the quality of service",
    "InvalidAccount": "the account does not exist",
    "InvalidQOS": "the quality of service does not exist",
    "QOSMaxJobsPerUser": "you run as many jobs as the quality of service allows",
    "QOSMaxSubmitJobPerUser": "you have as many jobs as the quality of service allows",
    "QOSMaxCpuPerUser": "you use as many CPUs as the quality of service allows",
    "QOSGrp": "everybody together uses what the quality of service allows",
    "QOS": "a limit of the quality of service is reached",
    "AssocGrp": "the account has used what it may use",
    "AssocMax": "you use what the account allows one user",
    "Licenses": "it waits for a license",
    "Reservation": "it waits for its reservation",
    "BeginTime": "it starts again later, after it was requeued",
    "JobHeldUser": "it is held; release it with `scontrol release`",
    "JobHeldAdmin": "an administrator holds it",
    "JobLaunchFailure": "it could not be launched; the log of slurmd on its node says why",
    "launch failed requeued held": "it could not be launched and is held; release it with "
    "`scontrol release`",
    "NodeDown": "a node that it needs is down",
    "Cleaning": "its earlier attempt is being cleaned up",
}
#: How jobs end, by Slurm's word (squeue(1), "JOB STATE CODES").
ENDED = {
    "BOOT_FAIL": "its node could not boot",
    "CANCELLED": "it was cancelled, but not by this run",
    "DEADLINE": "it reached its deadline",
    "FAILED": "",
    "NODE_FAIL": "a node failed",
    "OUT_OF_MEMORY": "it needed more memory than it requested",
    "PREEMPTED": "another job preempted it",
    "REVOKED": "another cluster runs it",
    "TIMEOUT": "it reached its time limit",
}
#: The exit code of a script that SIGTERM ended: 128 + 15.
TERMINATED = 143


def why_waiting(reason: str) -> str:
    """Say why a job waits: `Resources: the nodes that it needs are busy`."""
    for start, words in WAITING.items():
        if reason.startswith(start):
            return f"{reason}: {words}"
    return reason


def why_ended(task: Task | None, exit_code: int | None, *, cancelled: bool = False) -> str:
    """Say why a target did not succeed.

    - `task`: what Slurm says about its job. `exit_code`: what its own record says.
    - `cancelled`: whether the run was cancelled.
    """
    if task is None:
        return "its job ended, and Slurm no longer knows how"
    if task.was_pointless:
        is_invalid = task.reason.startswith("DependencyNeverSatisfied")
        why = "what it needs failed" if is_invalid else "it was cancelled before it began"
        return f"CANCELLED: {why}"
    if cancelled and (task.state == "CANCELLED" or exit_code == TERMINATED):
        return f"{task.state}: the run was cancelled"
    if task.state == "FAILED":
        return f"FAILED: {_why_failed(task, exit_code)}"
    words = ENDED.get(task.state, "")
    nodes = f" ({task.nodes})" if task.nodes and task.state == "NODE_FAIL" else ""
    return f"{task.state}: {words}{nodes}" if words else task.state


def _why_failed(task: Task, exit_code: int | None) -> str:
    if exit_code == TERMINATED:
        return "it got SIGTERM, before its time limit or for a preemption"
    if not exit_code and task.reason == "JobLaunchFailure":
        return why_waiting(task.reason)
    return f"its {'command' if exit_code else 'job'} failed"


def exit_code_of(run_dir: pathlib.Path, job: Job, index: int) -> int | None:
    """Return the exit code in the record of a target's last attempt; None if it has none."""
    _, end = last_attempt(str(run_dir / paths.record(target_path(job, index))))
    code = end.get("exit_code") if end else None
    return code if isinstance(code, int) else None


def target_path(job: Job, index: int) -> str:
    """Return the path of a target relative to `done/`, `records/` and `logs/`."""
    pipeline, _, command = job.stage.partition("/")
    split = None if job.num_splits is None else index
    return paths.target(pipeline, command, split, job.num_splits)
