"""What records tell about durations, and the verbs that show it."""

from __future__ import annotations

import json
import pathlib
import subprocess
import sys
from typing import Any

import pytest

from rvrun.plan.durations import Sample
from rvrun.rundir.durations import read_samples, summarize_records
from rvrun.rundir.records import read
from tests.conftest import Project


def write(folder: pathlib.Path, target: str, *lines: dict[str, Any]) -> None:
    path = folder / "records" / f"{target}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{json.dumps({'attempt': 1, **line})}\n" for line in lines))


def start(when: float) -> dict[str, Any]:
    return {"event": "start", "time": when}


def end(when: float, code: int = 0, **facts: Any) -> dict[str, Any]:
    return {"event": "end", "time": when, "exit_code": code, **facts}


def samples(folder: pathlib.Path) -> dict[str, list[Sample]]:
    result: dict[str, list[Sample]] = {}
    for name, sample in read_samples(folder):
        result.setdefault(name, []).append(sample)
    return result


def test_the_last_success_of_each_target_counts(tmp_path: pathlib.Path) -> None:
    """Not failures, not what was killed, and not what is still running."""
    write(tmp_path, "p/a", start(1), end(3), start(10), end(14), start(20), end(29, 1))
    write(tmp_path, "p/b", start(1), {"event": "killed", "time": 3, "signal": 9})
    write(tmp_path, "p/c", start(1))
    assert samples(tmp_path) == {"p/a": [Sample(seconds=4.0)]}


def test_what_an_attempt_tells(tmp_path: pathlib.Path) -> None:
    """Splits from the path, items, CPU time and memory from its lines; without the wait."""
    items = {"event": "items", "time": 9, "done": 3, "of": 5}
    gpu = {"event": "gpu", "time": 4, "device": "0"}
    write(
        tmp_path, "p.q/chip.5/4", start(1), gpu, items, end(10, cpu_seconds=2.5, peak_memory_kib=77)
    )
    expected = Sample(seconds=6.0, splits=5, items=3, cpu_seconds=2.5, peak_memory_kib=77)
    assert samples(tmp_path) == {"p.q/chip": [expected]}


def test_gaps_are_the_time_between_targets(tmp_path: pathlib.Path) -> None:
    """Except between two runs."""
    write(tmp_path, "p/a", start(0), end(2))
    write(tmp_path, "p/b", start(2.5), end(4))
    write(tmp_path, "p/c", start(100), end(101))
    write(tmp_path, "p/d", start(100.25), end(103))
    recorded = [sample for group in samples(tmp_path).values() for sample in group]
    assert [sample.gap for sample in recorded] == [None, 0.5, None, None]
    assert [sample.interval for sample in recorded] == [None, None, None, 0.25]


def test_the_wait_for_a_cpu_does_not_count(tmp_path: pathlib.Path) -> None:
    """It depends on what else ran; damaged values count as unknown."""
    write(tmp_path, "p/a", start(0), end(5, cpu_wait_seconds=3.5, num_cpus=4))
    write(tmp_path, "p/b", start(0), end(5, cpu_wait_seconds="x", num_cpus=0))
    write(tmp_path, "p/c", start(0), end(5, cpu_wait_seconds=9))
    recorded = [sample for group in samples(tmp_path).values() for sample in group]
    assert [(sample.seconds, sample.machine_cpus) for sample in recorded] == [
        *((1.5, 4), (5.0, None), (0.0, None))
    ]


@pytest.mark.usefixtures("processes")
@pytest.mark.skipif(sys.platform != "linux", reason="schedstat is Linux's")
def test_busy_targets_wait_for_cpus(tmp_path: pathlib.Path) -> None:
    """Of two processes on one CPU, one waits while the other runs."""
    code = (
        "import os, pathlib, sys, time\nfrom rvrun.rundir.records import Recorder\n"
        f"folder = pathlib.Path({str(tmp_path)!r})\n"
        "os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
        "writer = Recorder(str(folder), sys.argv[1])\nwriter.start()\n"
        # Else one could be done before the other one begins.
        "(folder / os.path.basename(sys.argv[1])).touch()\n"
        "while not all((folder / name).exists() for name in 'ab'):\n    time.sleep(0.001)\n"
        "began = time.process_time()\n"
        "while time.process_time() < began + 0.4:\n    pass\nwriter.end(0)\n"
    )
    started = [subprocess.Popen([sys.executable, "-c", code, f"p/{name}"]) for name in "ab"]
    assert [process.wait() for process in started] == [0, 0]
    ends = [list(read(f"{tmp_path}/records/p/{name}.jsonl"))[-1] for name in "ab"]
    assert sum(line["cpu_wait_seconds"] for line in ends) > 0.2
    assert {line["num_cpus"] for line in ends} == {1}


@pytest.mark.parametrize(
    "lines",
    [
        [start(1), end(2, cpu_seconds="x", peak_memory_kib="y")],
        [start(1), {"event": "items", "time": 1, "done": "x"}, end(2, cpu_seconds=-1)],
        [start(1), end(2, cpu_seconds=True)],
    ],
)
def test_facts_that_are_damaged_are_unknown(
    tmp_path: pathlib.Path, lines: list[dict[str, Any]]
) -> None:
    write(tmp_path, "p/a", *lines)
    assert samples(tmp_path) == {"p/a": [Sample(seconds=1.0)]}


def test_other_files_are_not_records(tmp_path: pathlib.Path) -> None:
    for name in (".configs/p/1", "p/a.x/0", "p/a.1/b/c", "p/a.0/0"):
        write(tmp_path, name, start(1), end(2))
    assert samples(tmp_path) == {}
    assert summarize_records(tmp_path / "none") == {}


def test_a_run_is_summarized_estimated_and_tuned(tiny: Project) -> None:
    """The verbs, one after the other, on a real run; stages of other runs stay in the file."""
    words = ("tiny.py", "--splits", "2")
    none = tiny.rvrun("plan", *words, "--estimate")
    assert none.stdout.splitlines()[-1] == (
        "estimate: no data: tiny/cut, tiny/count, tiny/sum and tiny/show"
    )
    assert "run it once, or add estimates.json" in none.stderr
    assert "run the config once" in tiny.rvrun("tune", "tiny.py", code=2).stderr
    assert "there are no records in runs/" in tiny.rvrun("records", "summary", code=2).stderr
    tiny.rvrun("run", "local", *words)
    tiny.rvrun("records", "summary")
    document = json.loads(tiny.read("estimates.json"))
    assert [(k, v["targets"]) for k, v in document["stages"].items()] == [
        *(("tiny/count", 2), ("tiny/cut", 2), ("tiny/show", 1), ("tiny/sum", 1))
    ]
    document["stages"]["other/a"] = document["stages"].pop("tiny/sum")
    tiny.write("estimates.json", json.dumps(document))
    tiny.rvrun("records", "summary")
    assert next(iter(json.loads(tiny.read("estimates.json"))["stages"])) == "other/a"
    done = tiny.rvrun("plan", *words, "-B", "--estimate", "-j2")
    assert done.stdout.splitlines()[-1].startswith("estimate: ")
    assert "2 targets in runs/tiny, per split" in done.stdout
    first, second = (
        tiny.rvrun("plan", *words, "--estimate", "--json", "-j2", "--out", f"plans/{name}").stdout
        for name in "ab"
    )
    assert first == second
    assert json.loads(first)["without_data"] == []
    done = tiny.rvrun("tune", *words)
    assert "critical path: tiny/cut → tiny/count → tiny/sum → tiny/show\n" in done.stdout
    assert "estimate at -j" in done.stdout
    assert done.stderr.startswith("to use this: rvrun run local tiny.py ")
    assert "--splits tiny/" not in done.stderr
    done = tiny.rvrun("tune", "tiny.py", "-a", "top", "5", "--out", "runs/tiny", "-j1")
    assert "; no other numbers of splits are faster" in done.stdout
    assert done.stderr == ("to use this: rvrun run local tiny.py -a top 5 --out runs/tiny -j1\n")
    tuning = json.loads(tiny.rvrun("tune", *words, "-j3", "--json").stdout)
    assert tuning["jobs"] == 3
    assert tuning["seconds_suggested"] <= tuning["seconds"]
    priced = tiny.rvrun("plan", *words, "-B", "--estimate", RVRUN_PRICES_GPU_HOUR="2.5")
    assert "≈ $0.00 (p90 $0.00)" in priced.stdout
    for value in ("x", "-1", "nan", "inf", "1e308"):
        done = tiny.rvrun("config", code=2, RVRUN_PRICES_GPU_HOUR=value)
        assert "`prices.gpu_hour` must be a number between 0 and 1e12" in done.stderr


def test_estimates_of_what_is_damaged_or_missing(tiny: Project) -> None:
    """Exit code 2, and the file's name."""
    tiny.write("estimates.json", "{}")
    done = tiny.rvrun("plan", "tiny.py", "--estimate", code=2)
    assert "rvrun: estimates.json must be a file of estimates: it has no" in done.stderr
    done = tiny.rvrun("plan", "tiny.py", "--estimate", code=2, RVRUN_ESTIMATES="none.json")
    assert "rvrun: none.json must be a file of estimates" in done.stderr
    done = tiny.rvrun("records", "summary", "plans", code=2)
    assert "rvrun: no run `plans` in the run directories in runs" in done.stderr
