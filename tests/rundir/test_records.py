from __future__ import annotations

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from rvrun.cpus import num_cpus
from rvrun.rundir.records import Recorder, read
from tests.conftest import Project

PATH = "records/tiny/chip.4/0.jsonl"


def recorder(folder: pathlib.Path) -> Recorder:
    return Recorder(str(folder), "tiny/chip.4/0")


def lines(folder: pathlib.Path) -> list[dict[str, object]]:
    return list(read(str(folder / PATH)))


def test_an_attempt_leaves_a_start_and_an_end(tmp_path: pathlib.Path) -> None:
    """Both lines in full: attempt, time, host and process, exit code and memory."""
    before = time.time()
    writer = recorder(tmp_path)
    writer.start()
    writer.end(3)
    after = time.time()
    start, end = (json.loads(line) for line in (tmp_path / PATH).read_text().splitlines())
    memory = end["peak_memory_kib"]
    expected = (
        {
            "event": "start",
            "attempt": 1,
            "time": start["time"],
            "host": os.uname().nodename,
            "pid": os.getpid(),
            "workdir": os.path.relpath(os.getcwd(), tmp_path),
        },
        {
            "event": "end",
            "attempt": 1,
            "time": end["time"],
            "exit_code": 3,
            "peak_memory_kib": memory,
            "cpu_seconds": end["cpu_seconds"],
            "num_cpus": num_cpus(),
            **({"cpu_wait_seconds": end["cpu_wait_seconds"]} if sys.platform == "linux" else {}),
        },
    )
    assert expected == (start, end)
    assert before - 0.001 <= start["time"] <= end["time"] <= after + 0.001
    assert isinstance(memory, int)


def test_attempts_are_appended_and_counted(tmp_path: pathlib.Path) -> None:
    """A later attempt appends its lines; earlier lines stay byte for byte."""
    kept = ""
    for attempt in (1, 2, 3):
        writer = recorder(tmp_path)
        assert attempt == writer.attempt
        writer.start()
        writer.note("gpu", device="0")
        writer.end(0)
        text = (tmp_path / PATH).read_text()
        assert text.startswith(kept)
        kept = text
    expected = [(event, n) for n in (1, 2, 3) for event in ("start", "gpu", "end")]
    assert expected == [(line["event"], line["attempt"]) for line in lines(tmp_path)]


def test_a_missing_record_has_no_lines(tmp_path: pathlib.Path) -> None:
    """Before the first attempt there is no record."""
    assert lines(tmp_path) == []
    assert recorder(tmp_path).attempt == 1


def test_a_cut_line_is_skipped(tmp_path: pathlib.Path) -> None:
    """A line that was cut off, or is not JSON, does not hide other lines."""
    recorder(tmp_path).start()
    with (tmp_path / PATH).open("a") as file:
        file.write('{"event": "end", "att\n\n')
    recorder(tmp_path).start()
    assert [line["attempt"] for line in lines(tmp_path)] == [1, 2]


def test_a_cut_last_line_does_not_swallow_the_next(tmp_path: pathlib.Path) -> None:
    """After a full disk cut off a write, the lines of the next attempt are read."""
    recorder(tmp_path).start()
    with (tmp_path / PATH).open("a") as file:
        file.write('{"event": "end", "att')
    again = recorder(tmp_path)
    again.start()
    again.end(0)
    expected = [("start", 1), ("start", 2), ("end", 2)]
    assert expected == [(line["event"], line["attempt"]) for line in lines(tmp_path)]


def test_a_killed_attempt_has_a_start_without_end(project: Project) -> None:
    """A killed process cannot record its end; the next attempt is the second."""
    code = (
        "import time\nfrom rvrun.rundir.records import Recorder\n"
        f"Recorder({str(project.folder)!r}, 'tiny/chip.4/0').start()\n"
        "print('started', flush=True)\ntime.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"started\n"
        process.send_signal(signal.SIGKILL)
    (line,) = lines(project.folder)
    assert ("start", 1, process.pid) == (line["event"], line["attempt"], line["pid"])
    assert recorder(project.folder).attempt == 2


def peak_memory_mib(project: Project, code: str) -> int:
    """Return the peak memory that a process records after it ran `code`."""
    code = (
        f"{code}\nfrom rvrun.rundir.records import Recorder\n"
        f"writer = Recorder({str(project.folder)!r}, 'tiny/chip.4/0')\n"
        "writer.start()\nwriter.end(0)\n"
    )
    project.run(sys.executable, "-c", code)
    memory = lines(project.folder)[-1]["peak_memory_kib"]
    assert isinstance(memory, int)
    return memory // 1024


ALLOCATE_100_MIB = "block = bytearray(b'x') * (100 << 20); del block"


@pytest.mark.parametrize(
    "code",
    [
        ALLOCATE_100_MIB,
        f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {ALLOCATE_100_MIB!r}])",
    ],
    ids=["itself", "its child"],
)
def test_the_peak_memory_is_that_of_the_largest_process(project: Project, code: str) -> None:
    """100 MiB that were allocated and freed count, in the process or in a child of it."""
    assert 100 <= peak_memory_mib(project, code) < 160


def test_the_peak_memory_is_not_that_of_the_parent(project: Project) -> None:
    """A small process started by a large one is small."""
    block = bytearray(b"x") * (150 << 20)
    assert 1 <= peak_memory_mib(project, "") < 60
    assert len(block) == 150 << 20
