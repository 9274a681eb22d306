"""`rvrun check --runner slurm`, and what `run` checks before its first call of sbatch."""

from __future__ import annotations

import pytest

from rvrun.finding import Level
from rvrun.runners.slurm.check import check_partitions
from rvrun.runners.slurm.settings import SlurmCommandSettings
from tests.engines.slurm import find
from tests.runners.slurm.runs import MARKS, Site


def findings(site: Site, *, code: int = 0) -> str:
    return site.rvrun("check", "--runner", "slurm", "marks.py", "--splits", "3", code=code)


def test_all_is_well(site: Site) -> None:
    """Slurm itself has checked each script, and nothing was submitted."""
    printed = findings(site)
    assert "sbatch, squeue, scancel, scontrol are on PATH" in printed
    assert "answers; MaxArraySize is 1,001" in printed
    assert "slurm/2-marks-part.sh would be accepted" in printed
    assert not site.slurm.call("squeue", "-h")


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ('partition = "gpu"', "partition `gpu` does not exist"),
        (
            'time = "1-0"',
            "`time` must be at most the limit of partition `main`, 01:00:00, got 1-0",
        ),
        ("cpus = 5", "no node of partition `main` has 5 CPUs; the largest has 4"),
        (
            "memory_mib = 99000",
            "no node of partition `main` has 99,000 MiB of memory; the largest has 8,000",
        ),
        ('gres = "gpu:3"', "no node of partition `main` has gpu:3"),
        ('gres = "gpu:a100:1"', "no node of partition `main` has gpu:a100:1"),
        ('constraint = "avx2"', "no node of the cluster has the feature `avx2`"),
        (
            "max_array_size = 5000",
            "`max_array_size` must be at most the cluster's MaxArraySize, 1001, got 5000",
        ),
    ],
    ids=lambda value: value if "=" in value else "",
)
def test_what_the_cluster_would_refuse(site: Site, settings: str, problem: str) -> None:
    """Found by `check`, and by `run` before anything is submitted."""
    site.write("rvrun.toml", f"[slurm]\n{settings}\n")
    assert problem in " ".join(findings(site, code=2).split())
    site.break_sbatch()
    printed = site.submit(code=2)
    assert printed.startswith("rvrun: Slurm would not accept this plan, 1 problem:")
    assert problem in printed
    assert site.calls() == []


def test_a_directory_that_slurm_reads_as_a_pattern(site: Site) -> None:
    """No job in it could write its output."""
    folder = site.folder / "100%j"
    folder.mkdir()
    (folder / "marks.py").write_text(MARKS, encoding="utf-8")
    printed = site.rvrun("run", "slurm", "marks.py", code=2, cwd="100%j")
    assert "because it reads `%j` as a part of a pattern; rename the directory\n" in printed


def test_several_partitions() -> None:
    """A job runs in whichever it fits, and accounts have subaccounts."""
    rows = {
        "short": {"MaxTime": "1:00:00"},
        "long": {"MaxTime": "1-00:00:00", "AllowAccounts": "lab"},
        "down": {"State": "DOWN"},
    }
    for partitions, account, time, expected in (
        ("short,long", None, "2:00:00", []),
        ("short,down", None, "2:00:00", [Level.WARNING]),
        ("short,long", None, "2-0", [Level.ERROR, Level.ERROR]),
        ("long", "LAB", "2:00:00", []),
        ("long", "lab-of-physics", "2:00:00", [Level.WARNING]),
    ):
        own = SlurmCommandSettings(account=account, time=time)
        findings_of_job = check_partitions("p/a", own, rows, partitions.split(","))
        assert [finding.level for finding in findings_of_job] == expected, partitions


def test_arrays_of_the_cluster(site: Site) -> None:
    """Scripts are tested with the arrays that would be submitted."""
    site.break_sbatch()
    change_limit(site, "MaxArraySize", 2)
    assert "MaxArraySize is 2" in findings(site)
    assert [call.split()[1] for call in site.calls()[1:3]] == ["--array=0-1"] * 2


def change_limit(site: Site, name: str, value: int) -> None:
    """Have scontrol say that the cluster has another limit."""
    scontrol = site.folder / "wrapped/scontrol"
    scontrol.write_text(f"#!/bin/sh\n{find('scontrol')} \"$@\" | sed '/{name} /s/=.*/= {value}/'\n")
    scontrol.chmod(0o755)


def test_more_jobs_than_the_cluster_keeps(site: Site) -> None:
    """A run is refused, as sbatch would repeat its request without a word; packed, it is not."""
    site.break_sbatch()
    change_limit(site, "MaxJobCount", 8)
    rule = "8 jobs are too many for the cluster, whose MaxJobCount is 8"
    fix = "put several splits into each job with `slurm.pack`"
    assert f"{rule}; {fix}" in site.submit(code=2)
    assert not site.calls()
    assert rule in findings(site)
    site.write("rvrun.toml", "[slurm]\npack = 3\n")
    assert "submitted" in site.submit()


def test_what_only_sbatch_knows(site: Site) -> None:
    """Whether its own options are valid."""
    site.write("rvrun.toml", '[slurm]\nsbatch = ["--mail-type=SOMETIMES"]\n')
    printed = " ".join(findings(site, code=2).split())
    assert "slurm/1-marks-first.sh: sbatch: error: Invalid --mail-type specification" in printed


def test_no_node_is_usable(site: Site) -> None:
    """The jobs would wait until there is one, so it is a warning."""
    for node in site.slurm.nodes:
        site.slurm.call("scontrol", "update", f"nodename={node}", "state=drain", "reason=test")
    printed = " ".join(findings(site).split())
    assert "slurm/1-marks-first.sh: no node can run it now (Requested node configuration" in printed


def test_a_partition_that_is_down(site: Site) -> None:
    """Jobs would wait, so it is a warning."""
    site.write("rvrun.toml", '[slurm]\npartition = "closed"\n')
    assert "partition `closed` is down, so its jobs would wait" in " ".join(findings(site).split())


def test_a_container_that_is_missing(site: Site) -> None:
    """It may be on the nodes, so it is a warning."""
    site.write("rvrun.toml", '[slurm]\ncontainer = "no.sif"\n')
    printed = " ".join(findings(site).split())
    assert "marks/first: container image no.sif does not exist here" in printed


def test_no_cluster(site: Site) -> None:
    """Without Slurm's commands, and without its controller."""
    site.variables["SLURM_CONF"] = "/nonexistent"
    assert "error    cluster   `scontrol`: " in findings(site, code=2)
