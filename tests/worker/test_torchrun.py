"""Jobs on several hosts, and torchrun; several local processes play the hosts."""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rvrun.runners.sagemaker.hosts import read_hosts
from rvrun.worker.call import BadCall, Call, parse
from rvrun.worker.torchrun import BadHosts, Hosts, processes, wait_for_name
from tests.conftest import ROOT, Project, clean_environment

TEAM = """
import json, os, pathlib
import rvrun

class TeamConfig(rvrun.PipelineConfig):
    def build(self):
        return Team(self)

class Team(rvrun.Pipeline):
    commands = ("chip", "train", "fail")
    split_commands = ("chip",)
    gpu_commands = ("train",)

    def save(self, name, value):
        path = pathlib.Path(self.config.root_uri, f"{name}.json")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(value))

    def chip(self, split_ind, num_splits):
        self.save(f"chip-{split_ind}", [split_ind, num_splits])

    def train(self):
        names = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "NCCL_SOCKET_IFNAME")
        self.save(f"train-{os.environ['RANK']}", [os.environ.get(name) for name in names])

    def fail(self):
        if os.environ["RANK"] == "1":
            raise SystemExit(3)

def get_config(runner):
    return TeamConfig(root_uri="out", name="team")
"""


@attrs.frozen
class Cluster:
    """A project, and hosts on which its workers run."""

    project: Project
    hosts: tuple[str, ...]
    interface: str | None = None

    def start(self, host: str, *words: str, **env: str) -> subprocess.Popen[str]:
        """A worker on `host`."""
        config = {"current_host": host, "hosts": list(self.hosts)}
        if self.interface:
            config["network_interface_name"] = self.interface
        path = self.project.write(f"hosts/{host}.json", json.dumps(config))
        command = ("rvrun", "run_command", "runs/team/config/team.json", *words)
        environment = clean_environment(**{"RVRUN_RESOURCE_CONFIG": str(path), **env})
        return subprocess.Popen(
            (*command, "--runner", "sagemaker"),
            cwd=self.project.folder,
            env={**environment, "PATH": f"{self.project.folder}/bin:{environment['PATH']}"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *words: str, **env: str) -> list[tuple[int, str]]:
        """Run the same worker on every host concurrently; return exit codes and stderr."""
        workers = [self.start(host, *words, **env) for host in self.hosts]
        errors = [worker.communicate(timeout=120)[1] for worker in workers]
        return [(worker.returncode, text) for worker, text in zip(workers, errors, strict=True)]

    def saved(self) -> dict[str, Any]:
        folder = self.project.folder / "out"
        return {path.stem: json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))}


@pytest.fixture
def team(project: Project) -> Project:
    """The pipeline, rendered, and a stand-in for torchrun on PATH."""
    project.write("team.py", TEAM)
    project.rvrun("render", "local", "team.py", "--splits", "12")
    script = (ROOT / "tests/engines/torchrun.py").read_text()
    path = project.write("bin/torchrun", f"#!{sys.executable}\n{script}")
    path.chmod(0o755)
    return project


def loopback(folder: pathlib.Path, num: int) -> tuple[str, ...]:
    """Addresses of this machine that no other test has, the last one before the ninth as text."""
    number = abs(hash(str(folder))) % 60_000
    return tuple(f"127.{number // 250 + 1}.{number % 250 + 1}.{i + 8}" for i in range(num))


def test_each_instance_is_a_split(team: Project) -> None:
    """By the numbers of their names: algo-10 comes after algo-2, not after algo-1."""
    hosts = tuple(sorted(f"algo-{number}" for number in range(1, 13)))
    cluster = Cluster(team, hosts)
    for host in ("algo-1", "algo-2", "algo-10", "algo-12"):
        worker = cluster.start(host, "chip", "--num-splits", "12")
        worker.communicate(timeout=60)
        assert worker.returncode == 0
    assert list(cluster.saved().values()) == [[0, 12], [1, 12], [11, 12], [9, 12]]


def test_instances_of_a_later_step_begin_at_its_split(team: Project) -> None:
    """The step says which one."""
    cluster = Cluster(team, ("algo-1", "algo-2"))
    results = cluster.run("chip", "--num-splits", "12", RVRUN_SPLITS="10-11")
    assert [text.splitlines()[0] for _, text in results] == [
        "rvrun: team/chip/10 of 12",
        "rvrun: team/chip/11 of 12",
    ]
    assert list(cluster.saved()) == ["chip-10", "chip-11"]


def test_an_index_that_is_given_needs_no_hosts(team: Project) -> None:
    """A step of one split."""
    cluster = Cluster(team, ("algo-1",))
    words = ("chip", "--split-ind", "3", "--num-splits", "12")
    assert cluster.run(*words, RVRUN_RESOURCE_CONFIG="nowhere")[0][0] == 0
    assert list(cluster.saved()) == ["chip-3"]


def test_more_instances_than_splits_are_refused(team: Project) -> None:
    """One sentence, and nothing is run."""
    cluster = Cluster(team, ("algo-1", "algo-2"))
    results = cluster.run("chip", "--num-splits", "12", RVRUN_SPLITS="11")
    assert results[1] == (
        2,
        "rvrun: cannot determine which split to run: index 1 of `sagemaker` is out of range for "
        "RVRUN_SPLITS='11'\n",
    )


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (None, "found no list of this job's hosts at "),
        ("nonsense", "does not list this job's hosts"),
        ('{"current_host": "a"}', "does not list this job's hosts (KeyError('hosts'))"),
        (
            '{"current_host": "c", "hosts": ["b", "a"]}',
            "host `c` is not in the list of hosts: a, b",
        ),
        ('{"current_host": "a", "hosts": ["a", "a"]}', "the list of hosts has duplicates: a, a"),
    ],
)
def test_a_list_of_hosts_that_says_nothing_usable(
    text: str | None, problem: str, tmp_path: pathlib.Path
) -> None:
    """Each names the file or the host."""
    path = tmp_path / "hosts.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(BadHosts) as caught:
        read_hosts({"RVRUN_RESOURCE_CONFIG": str(path)})
    assert problem in str(caught.value)


def test_training_on_several_hosts_goes_through_torchrun(team: Project) -> None:
    """Every process knows its rank among all, and the first host, whose name sorts as text last."""
    hosts = loopback(team.folder, 3)
    cluster = Cluster(team, (hosts[2], hosts[0], hosts[1]), interface="lo")
    results = cluster.run("train", "--torchrun", "2")
    assert [code for code, _ in results] == [0, 0, 0]
    assert cluster.saved() == {
        f"train-{rank}": [str(rank), str(rank % 2), "6", hosts[0], "lo"] for rank in range(6)
    }


def test_a_process_that_fails_fails_its_host(team: Project) -> None:
    """The job fails where any of its processes does."""
    results = Cluster(team, loopback(team.folder, 2)).run("fail", "--torchrun", "1")
    assert [code for code, _ in results] == [0, 1]


def test_one_host_may_have_several_processes(team: Project) -> None:
    """One a GPU; a GPU target takes no slot there, since the machine is its own."""
    cluster = Cluster(team, loopback(team.folder, 1))
    assert cluster.run("train", "--torchrun", "gpu", CUDA_VISIBLE_DEVICES="0,1")[0][0] == 0
    assert [ranks[:3] for ranks in cluster.saved().values()] == [
        ["0", "0", "2"],
        ["1", "1", "2"],
    ]


def test_without_torchrun_the_error_says_so(team: Project) -> None:
    """An image without PyTorch."""
    if shutil.which("torchrun", path=os.path.dirname(sys.executable)):
        pytest.skip("this environment has PyTorch")
    (team.folder / "bin/torchrun").unlink()
    ((code, text),) = Cluster(team, ("localhost",)).run("train", "--torchrun", "1")
    assert (code, text.startswith("rvrun: torchrun is not on PATH; ")) == (2, True)


def test_a_gpu_target_of_another_machine_takes_no_slot(team: Project) -> None:
    """What RANK it sees is its own affair; no lock is left behind."""
    locks = team.folder / "locks"
    worker = Cluster(team, ("a",)).start("a", "train", RANK="7", RVRUN_LOCAL_GPU_LOCKS=str(locks))
    worker.communicate(timeout=60)
    assert (worker.returncode, locks.exists()) == (0, False)


@pytest.mark.parametrize(
    ("words", "runner"),
    [((), "a call without --runner"), (("--runner", "batch"), "runner `batch`")],
)
def test_torchrun_needs_a_list_of_hosts(words: tuple[str, ...], runner: str) -> None:
    """Only a runner with several hosts per job has one."""
    with pytest.raises(BadCall) as caught:
        parse(("c.json", "train", *words, "--torchrun", "2"))
    assert str(caught.value) == (
        "run_command train: --torchrun needs a runner whose jobs have several hosts, got " + runner
    )


def test_what_a_call_says_is_read_without_a_library() -> None:
    """In the usual spelling."""
    words = ("c.json", "train", "--runner", "sagemaker", "--torchrun", "2")
    call = parse(words)
    assert isinstance(call, Call)
    assert (call.split_ind, call.runner, call.torchrun) == (None, "sagemaker", "2")


@given(st.sets(st.integers(1, 10_000), min_size=1, max_size=40), st.randoms())
def test_hosts_are_in_the_order_of_their_numbers(numbers: set[int], random: object) -> None:
    """However they are listed, each of them is one index."""
    names = [f"algo-{number}" for number in numbers]
    random.shuffle(names)  # type: ignore[attr-defined]
    ordered: Sequence[str] = [f"algo-{number}" for number in sorted(numbers)]
    assert [Hosts(name, names).rank for name in ordered] == list(range(len(ordered)))


@pytest.mark.parametrize("value", ["0", "-1", "two", "", "½"])
def test_a_number_of_processes_is_a_number(value: str) -> None:
    """Or `gpu`."""
    with pytest.raises(BadHosts, match="must be an integer of at least 1 or `gpu`, got"):
        processes(value)


def test_a_host_s_name_may_come_late(capsys: pytest.CaptureFixture[str]) -> None:
    """It is looked up until it resolves, or until the time limit; the wait is reported once."""
    lookups: list[str] = []

    def resolve(name: str) -> None:
        lookups.append(name)
        if len(lookups) < 4:
            raise OSError("not known")

    wait_for_name("algo-1", sleep=lambda _: None, resolve=resolve)
    assert lookups == ["algo-1"] * 4
    waiting = "rvrun: waiting for host `algo-1` to resolve, at most 600 s (not known)\n"
    assert capsys.readouterr().err == waiting
    lookups.clear()
    with pytest.raises(BadHosts, match=r"host `algo-1` does not resolve after 2 s \(not known\)"):
        wait_for_name("algo-1", seconds=2, sleep=lambda _: None, resolve=resolve)
