"""Run Slurm's commands. Their short options and formats have not changed for many versions."""

from __future__ import annotations

import os
import pathlib
import re
import subprocess
from collections.abc import Collection, Mapping, Sequence

import attrs

from rvrun.errors import Problem, RvrunError, Transient
from rvrun.text import shorten

#: Variables of an outer make, whose job server and flags jobs must not inherit.
OUTER_MAKE = ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEFILES", "GNUMAKEFLAGS")
#: Slurm's variables that say which cluster to use; all others belong to an outer job.
KEPT = ("SLURM_CONF", "SLURM_CLUSTERS", "SLURM_CONF_SERVER")
#: The variables that override an option in a script, if they are not called after it (sbatch(1),
#: "INPUT ENVIRONMENT VARIABLES").
OVERRIDING = {
    "array": ("SBATCH_ARRAY_INX",),
    "mem": ("SBATCH_MEM_PER_NODE", "SBATCH_MEM_PER_CPU", "SBATCH_MEM_PER_GPU"),
    "requeue": ("SBATCH_NO_REQUEUE",),
    "no-requeue": ("SBATCH_REQUEUE",),
    "time": ("SBATCH_TIMELIMIT",),
}
#: Variables that no job of a run can have: most are not arrays, and sbatch must not wait for it.
NEVER = ("SBATCH_ARRAY_INX", "SBATCH_WAIT")
_OPTION = re.compile(r"#SBATCH --([a-z-]+)")
#: Seconds after which a command is taken to hang. Slurm's own time-outs are shorter.
TIMEOUT = 300.0
#: The fields of a kind of node (sinfo(1)), as `nodes.parse_node` reads them.
NODES = "%R|%D|%c|%m|%G|%f"
#: What commands print if the controller or the database does not answer.
_NO_ANSWER = re.compile(
    r"socket timed out|unable to contact|connection refused|temporarily unable|"
    r"temporarily unavailable|connection timed out|transport endpoint|communication.*failure|"
    r"connection reset|message (?:send|receive) failure|broken pipe|"
    r"zero bytes were transmitted|in standby mode",
    re.IGNORECASE,
)


class NotInstalled(RvrunError):
    """A machine without a command of Slurm's."""

    command: str
    template = (
        "`{command}` is not on PATH; run rvrun on a login node of the cluster, or load its module"
    )
    fix = "run rvrun on a login node of the cluster, or load the module that has `{command}`"


class CommandFailed(Problem):
    """A command that Slurm refused, with what it printed."""


class NoAnswer(Transient):
    """A controller or database that does not answer."""

    problem: str
    template = "{problem}"
    fix = "wait until the cluster's controller is up again: `scontrol ping`"


class NoAccounting(NoAnswer):
    """A database of jobs that does not answer, whatever the controller does."""

    fix = "wait until the cluster's accounting, slurmdbd, is up again"


@attrs.frozen(kw_only=True)
class Limits:
    """Limits of a cluster; None for what it does not say.

    - `max_job_count`: how many jobs the controller keeps at a time.
    """

    max_array_size: int | None
    max_job_count: int | None


@attrs.frozen
class Done:
    """How a command ended."""

    code: int
    stdout: str
    stderr: str

    @property
    def message(self) -> str:
        """What it printed about its failure, on one line."""
        lines = [line.strip() for line in self.stderr.splitlines() if line.strip()]
        return shorten("; ".join(dict.fromkeys(lines))) or f"exit code {self.code}"

    @property
    def has_no_answer(self) -> bool:
        """Whether the controller or the database did not answer."""
        return self.code != 0 and bool(_NO_ANSWER.search(self.stderr))


def call(
    words: Sequence[str],
    *,
    cwd: pathlib.Path | None = None,
    variables: Mapping[str, str] | None = None,
    unset: Collection[str] = (),
    inherited: Sequence[int] = (),
) -> Done:
    """Run a command to its end, whatever its exit code. Raises `NotInstalled` or `NoAnswer`.

    - `variables`: added to the environment. `unset`: removed from it.
    - `inherited`: descriptors that it keeps open.
    """
    own = {name: value for name, value in environment().items() if name not in unset}
    try:
        done = subprocess.run(
            words,
            cwd=cwd,
            env={**own, **(variables or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=TIMEOUT,
            pass_fds=tuple(inherited),
        )
    except FileNotFoundError as error:
        if error.filename != words[0]:
            raise
        raise NotInstalled(words[0]) from None
    except subprocess.TimeoutExpired as error:
        # sbatch says on stderr that it repeats its request, for example because there are too many
        # jobs. What was read by then is bytes, whatever was asked for.
        stderr = bytes(error.stderr or b"").decode(errors="replace")
        why = f": {Done(1, '', stderr).message}" if stderr.strip() else ""
        raise NoAnswer(f"`{words[0]}` did not end within {TIMEOUT:.0f} s{why}") from None
    return Done(done.returncode, done.stdout, done.stderr)


def query(*words: str) -> str:
    """Run a command that only reads, and return what it prints; times are seconds since 1970.

    Raises `NotInstalled`, `NoAnswer` or `CommandFailed`.
    """
    done = call(words, variables={"SLURM_TIME_FORMAT": "%s", "SLURM_BITSTR_LEN": "0"})
    if done.has_no_answer:
        raise NoAnswer(f"`{words[0]}`: {done.message}")
    if done.code != 0:
        raise CommandFailed(f"`{words[0]}`: {done.message}")
    return done.stdout


def environment() -> dict[str, str]:
    """Return this environment without what belongs to an outer make or an outer job.

    sbatch passes it on to the job, and some variables of an outer job would change what it requests
    (sbatch(1), "INPUT ENVIRONMENT VARIABLES").
    """
    return {
        name: value
        for name, value in os.environ.items()
        if name not in OUTER_MAKE and (name in KEPT or not name.startswith(("SLURM_", "PMI")))
    }


def overriding(script: str) -> set[str]:
    """Return the variables of sbatch that would change what a script requests.

    People set some as their own defaults, such as SBATCH_PARTITION, for scripts that do not say.
    """
    options = _OPTION.findall(script)
    same = {f"SBATCH_{option.replace('-', '_').upper()}" for option in options}
    return same.union(NEVER, *(OVERRIDING.get(option, ()) for option in options))


def limits() -> Limits:
    """Return the limits of the cluster's configuration."""
    lines = query("scontrol", "show", "config").splitlines()
    pairs = (line.partition("=") for line in lines)
    values = {name.strip(): value.strip() for name, _, value in pairs}
    return Limits(
        max_array_size=_limit(values.get("MaxArraySize", "")),
        max_job_count=_limit(values.get("MaxJobCount", "")),
    )


def _limit(value: str) -> int | None:
    return int(value) if value.isdecimal() and int(value) else None


def partitions() -> dict[str, dict[str, str]]:
    """Return the attributes of each partition by its name, as `scontrol` prints them."""
    lines = query("scontrol", "show", "partition", "--oneliner").splitlines()
    rows = [dict(word.split("=", 1) for word in line.split() if "=" in word) for line in lines]
    return {row["PartitionName"]: row for row in rows if "PartitionName" in row}


def nodes() -> list[str]:
    """Return a line for each kind of node of each partition: CPUs, MiB, resources, features.

    An empty list where `sinfo` is missing or refused.
    """
    try:
        return query("sinfo", "--noheader", "--all", "--exact", f"--format={NODES}").splitlines()
    except (NotInstalled, CommandFailed):
        return []


def cancel(ids: Sequence[int]) -> None:
    """End jobs that wait or run; nothing happens to those that have ended."""
    if ids:
        query("scancel", *(str(id_) for id_ in ids))
