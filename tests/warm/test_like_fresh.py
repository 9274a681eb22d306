"""Targets that are forked by a warm worker behave like those in fresh processes.

The same pipeline, whose targets note all that they find, runs in both ways.
"""

from __future__ import annotations

import collections
import json
import os
import pathlib
import re
from collections.abc import Callable, Iterator
from typing import Any

import attrs
import pytest

from tests.conftest import ROOT, Project

WORLD = ROOT / "tests" / "data" / "warm" / "world.py"
pytestmark = pytest.mark.xdist_group("world")
#: Variables with which Makefiles below a target find the warm worker.
OF_WORKER = ("RVRUN", "RVRUN_WARM", "RVRUN_PYTHON")
#: Targets whose processes print in any order.
UNORDERED = ("spawns", "starts_servers")
#: What their imports print last.
NO_NEWLINE = "import: no newline;"
NUM_DRAWS = 50


@attrs.frozen
class Ran:
    """A run that has ended."""

    project: Project
    stderr: str

    def files(self, folder: str, pattern: str) -> dict[str, str]:
        paths = sorted((self.project.folder / folder).glob(pattern))
        return {path.name: path.read_text(encoding="utf-8") for path in paths}

    def noted(self, name: str) -> Any:
        return json.loads(self.project.read(f"out/{name}.json"))


@attrs.frozen
class Both:
    """The same run in fresh processes and with a warm worker."""

    fresh: Ran
    warm: Ran

    def ask(self, question: Callable[[Ran], Any]) -> tuple[Any, Any]:
        return question(self.fresh), question(self.warm)


@pytest.fixture(scope="module")
def both(processes: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    """Both runs, unmeasured: what coverage prints in processes of a target is not the target's."""

    def run(how: str, num_splits: int) -> Ran:
        project = Project(tmp_path_factory.mktemp("world"))
        project.write("world.py", WORLD.read_text(encoding="utf-8"))
        words = ("--splits", str(num_splits), "-k", "-j2", "--no-show-output", "--out", "run", "-v")
        environment = {
            "VARIABLE": "value",
            "RVRUN_LOCAL_GPUS": "0,1",
            # Targets of other tests may hold slots of this machine.
            "RVRUN_LOCAL_GPU_LOCKS": str(project.folder / "locks"),
            "PYTHONUNBUFFERED": "",
        }
        done = project.rvrun("run", "local", "world.py", how, *words, code=1, **environment)
        return Ran(project, done.stderr)

    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            if name.startswith("COV"):
                patch.delenv(name)
        yield Both(run("--no-warm", 1), run("--warm", NUM_DRAWS))


def comparable(text: str, ran: Ran) -> str:
    """A text without what differs between any two processes."""
    text = text.replace(str(ran.project.folder), "FOLDER")
    text = re.sub(r"0x[0-9a-f]+", "0xN", text)
    return re.sub(r"(?:pipe|socket):\[\d+\]", "pipe", text)


def test_all_targets_were_forked(both: Both) -> None:
    assert "fresh process" not in both.warm.stderr
    assert both.ask(lambda ran: ran.noted("look").pop("is forked")) == (False, True)


def test_logs_are_the_same(both: Both) -> None:
    """Also what imports print and warn, what ends the process, and the order of it all."""

    def logs(ran: Ran) -> dict[str, Any]:
        texts = ran.files("run/logs/world", "*.log")
        logs: dict[str, Any] = {name[:-4]: comparable(text, ran) for name, text in texts.items()}
        for name in UNORDERED:
            # What follows a text without an end of line may come from any of the processes.
            logs[name] = sorted(logs[name].replace(NO_NEWLINE, f"{NO_NEWLINE}\n").splitlines())
        # A target leads a process group of its own.
        logs["program"] = re.sub("^(True|False) ", "", logs["program"], flags=re.MULTILINE)
        # Signals that Python cannot set, which the C library uses itself.
        logs["program"] = re.sub("SigIgn:.*", "SigIgn", logs["program"])
        # Python cannot find the source any more.
        logs["full"] = logs["full"].replace(
            '    os.write(1, f"{self.name} is finalized\\n".encode())\n', ""
        )
        # Python code calls the functions that were registered with `atexit`.
        own = r"(?<=<built-in function exit>\n)Traceback .*\n(?:  .*\n)+(?=SystemExit)"
        logs["at_exit_exits"] = re.sub(own, "", logs["at_exit_exits"])
        return logs

    fresh, warm = both.ask(logs)
    assert len(fresh) > 40
    assert warm == fresh


def test_ends_are_the_same(both: Both) -> None:
    """Exit codes and signals, in records, in make's output and in the summary."""

    def ends(ran: Ran) -> dict[str, Any]:
        records = ran.files("run/records/world", "*.jsonl")
        lines = {name: json.loads(text.splitlines()[-1]) for name, text in records.items()}
        return {
            name: (line["event"], line.get("exit_code"), line.get("signal"))
            for name, line in lines.items()
        }

    def failures_of_make(ran: Ran) -> list[str]:
        lines = ran.project.read("run/logs/make.log").splitlines()
        return sorted(re.sub(r":\d+:", ":", line) for line in lines if "***" in line)

    def summary(ran: Ran) -> list[str]:
        return sorted(
            re.findall(r"^world/\S+ failed .*|^also failed: .*", ran.stderr, re.MULTILINE)
        )

    fresh, warm = both.ask(ends)
    assert warm == fresh
    assert fresh["quits.jsonl"] == ("killed", 7, None)
    assert fresh["segfaults.jsonl"] == ("killed", None, 11)
    assert fresh["kills_itself.jsonl"] == ("killed", None, 9)
    assert fresh["exits_3.jsonl"] == ("end", 3, None)
    assert fresh["exits_big.jsonl"] == ("end", 2, None)
    fresh, warm = both.ask(failures_of_make)
    assert warm == fresh
    assert len(fresh) == 13
    fresh, warm = both.ask(lambda ran: [len(summary(ran)), "(exit 7;" in ran.stderr])
    assert warm == fresh


def test_files_are_written(both: Both) -> None:
    """What is in the buffers of files that an import, or the target, has opened."""

    def files(ran: Ran) -> dict[str, str]:
        return ran.files(".", "opened.txt") | ran.files(".", "replaced.txt")

    fresh, warm = both.ask(files)
    assert warm == fresh
    assert len(fresh) == 2
    imported = both.warm.project.read("imported.txt").splitlines()
    lines = collections.Counter(imported)
    assert lines["left in the buffer of an imported file"] == 1
    more = NUM_DRAWS - 1
    fresh_lines = collections.Counter(both.fresh.project.read("imported.txt").splitlines())
    assert lines["written by an import"] == fresh_lines["written by an import"] + more
    left = both.ask(lambda ran: [pathlib.Path(p).exists() for p in ran.files(".", "left.txt")])
    assert left == ([False], [False])


def described(world: dict[str, Any], ran: Ran) -> dict[str, Any]:
    """What a target noted, without the differences that are wanted."""
    for name in ("is forked", "leads its group", "environ of a child"):
        del world[name]
    for name in OF_WORKER:
        world["environ"].pop(name, None)
    # BLAS starts its threads again when they are needed.
    del world["masks"]["Threads"]
    del world["masks"]["SigIgn"]
    # make gives its stdin to one of the jobs that run.
    texts = {
        n: re.sub(r" 10(?=\d{4} )", " ", t) for n, t in world["descriptors"].items() if n != "0"
    }
    world["descriptors"] = sorted(texts.values())
    described: dict[str, Any] = json.loads(comparable(json.dumps(world), ran))
    return described


def test_processes_look_the_same(both: Both) -> None:
    fresh, warm = both.ask(lambda ran: described(ran.noted("look"), ran))
    assert warm == fresh
    environment = both.warm.noted("look")["environ of a child"]
    variables = dict(pair.split("=", 1) for pair in environment.split("\0")[:-1])
    assert variables == both.warm.noted("look")["environ"] | {"_": variables["_"]}
    assert both.warm.noted("look")["leads its group"]


def test_nothing_leaks_into_the_next_target(both: Both) -> None:
    fresh, warm = both.ask(lambda ran: described(ran.noted("after_leak"), ran))
    assert warm == fresh
    assert not warm["leaked"]
    assert warm["counter"] == []


def test_random_numbers(both: Both) -> None:
    """In each target others; but those that an import seeded are the same in all."""
    draws = [both.warm.noted(f"draw-{i}") for i in range(NUM_DRAWS)]
    # One interpreter has one seed for `hash`.
    for name in draws[0].keys() - {"hash"}:
        assert len({draw[name] for draw in draws}) == NUM_DRAWS, name
    assert both.warm.noted("look")["seeded"] == both.fresh.noted("look")["seeded"]


def test_memory_is_that_of_the_target(both: Both) -> None:
    """A target that uses much shows it, one beside it does not; `explain` tells what is shared."""

    def peak(ran: Ran, command: str) -> int:
        record = ran.project.read(f"run/records/world/{command}.jsonl")
        return int(json.loads(record.splitlines()[-1])["peak_memory_kib"])

    fresh, warm = both.ask(lambda ran: peak(ran, "big"))
    assert warm > 200 << 10
    assert abs(warm - fresh) < 40 << 10
    fresh, warm = both.ask(lambda ran: peak(ran, "small"))
    assert max(fresh, warm) < 100 << 10
    explain = ("explain", "world/small", "--out", "run")
    project = both.warm.project
    assert re.search(r"MiB at its peak, \d+ MiB of them shared", project.rvrun(*explain).stdout)
    shown = json.loads(project.rvrun(*explain, "--json").stdout)
    assert 5_000 < shown["shared_memory_kib"] <= shown["peak_memory_kib"]
    shown = json.loads(both.fresh.project.rvrun(*explain, "--json").stdout)
    assert shown["shared_memory_kib"] is None
