"""What makes it unsafe to fork: seen in real processes, and read from texts of `/proc`."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import stat
import sys

import pytest

from rvrun.warm.hazards import Descriptor, describe_problem, parse_flags, parse_stat
from tests.conftest import Project

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has /proc")
#: Imports `case`, and prints the hazards.
SCRIPT = """
import json, os, sys
sys.path.insert(0, os.getcwd())
{before}
from rvrun.warm.hazards import find_hazards, take_stock

stock = take_stock()
import case
hazards = [str(hazard) for hazard in find_hazards(stock)]
case.end() if hasattr(case, "end") else None
print(json.dumps(hazards))
"""


def hazards(project: Project, module: str, before: str = "") -> list[str]:
    """Return the hazards of importing a module, with `#` for process ids."""
    project.write("case.py", module)
    project.write("script.py", SCRIPT.format(before=before))
    done = project.run(sys.executable, "script.py", TMPDIR=str(project.folder))
    messages: list[str] = json.loads(done.stdout.splitlines()[-1])
    text = str(project.folder)
    return [re.sub(r"process \d+", "process #", m.replace(text, "DIR")) for m in messages]


THREAD = "started the thread `{}`, which a fork would lose"
SHARED = "which targets would share"
POSITION = "in which targets would share their position"
#: Python 3.11 does not report which module started a thread that runs a function of Python's own.
POOL_CAUSE = "an import" if sys.version_info < (3, 12) else "importing `case`"
DELETED = "which the first target to end could delete"
ORPHAN = "which would not be a child of the targets"


@pytest.mark.parametrize(
    ("module", "expected"),
    [
        pytest.param(
            "import threading, time\n"
            "def work(): time.sleep(9)\n"
            "threading.Thread(target=work, name='worker-1', daemon=True).start()",
            ["importing `case` " + THREAD.format("worker-1")],
            id="a thread",
        ),
        pytest.param(
            "import concurrent.futures, threading\n"
            "stop = threading.Event()\n"
            "pool = concurrent.futures.ThreadPoolExecutor(1)\n"
            "pool.submit(stop.wait)\n"
            "end = stop.set",
            [f"{POOL_CAUSE} {THREAD.format('ThreadPoolExecutor-0_0')}"],
            id="a pool of threads",
        ),
        pytest.param(
            "import _thread, time\n"
            "for _ in range(2):\n"
            "    _thread.start_new_thread(time.sleep, (9,))",
            [
                f"an import started 2 threads named `{os.path.basename(sys.executable)[:15]}`, "
                "which a fork would lose"
            ],
            id="threads that Python does not list",
        ),
        pytest.param(
            "import socket\nsocket_a, socket_b = socket.socketpair()",
            [
                f"importing `case` opened descriptor 3 (socket), {SHARED}",
                f"importing `case` opened descriptor 4 (socket), {SHARED}",
            ],
            id="a pair of sockets",
        ),
        pytest.param(
            "import socket\nconnection = socket.socket()",
            [f"importing `case` opened descriptor 3 (socket), {SHARED}"],
            id="a socket",
        ),
        pytest.param(
            "import select\npoll = select.epoll()",
            [f"an import opened descriptor 3 (eventpoll), {SHARED}"],
            id="epoll",
        ),
        pytest.param(
            "import os\nevent = os.eventfd(0)",
            [f"an import opened descriptor 3 (eventfd), {SHARED}"],
            id="eventfd",
        ),
        pytest.param(
            "import os\npipe = os.pipe()",
            [
                f"an import opened descriptor 3 (pipe), {SHARED}",
                f"an import opened descriptor 4 (pipe), {SHARED}",
            ],
            id="a pipe",
        ),
        pytest.param(
            "file = open('log', 'w')",
            [f"importing `case` left `DIR/log` open, {POSITION}"],
            id="a file open for writing",
        ),
        pytest.param(
            "file = open('case.py')",
            [f"an import left `DIR/case.py` open, {POSITION}"],
            id="a file open for reading",
        ),
        pytest.param(
            "import multiprocessing\nlock = multiprocessing.get_context('fork').Lock()",
            [f"an import created a lock of `multiprocessing`, {SHARED}"],
            id="a lock between processes",
        ),
        pytest.param(
            "import tempfile\nfolder = tempfile.TemporaryDirectory(prefix='a')\n"
            "file = tempfile.NamedTemporaryFile(prefix='b')\nfile.file.close()\n"
            "file._closer.close = lambda *_: None\n"
            "import os; os.rename(folder.name, 'gone'); os.mkdir(folder.name)",
            None,
            id="temporary files",
        ),
        pytest.param(
            "import subprocess\nprocess = subprocess.Popen(['sleep', '60'])\nend = process.kill",
            [f"importing `case` started the process # (`sleep 60`), {ORPHAN}"],
            id="a process",
        ),
        pytest.param(
            "import os, signal\nos.register_at_fork(after_in_child=os.abort)",
            ["after the imports, a forked process is killed by SIGABRT"],
            id="a fork that is killed",
        ),
        pytest.param(
            "import os, signal\nos.register_at_fork(after_in_child=lambda: os._exit(3))",
            ["after the imports, a forked process fails with code 3"],
            id="a fork that fails",
        ),
        pytest.param(
            "import os, signal, time\n"
            "from rvrun.warm import hazards\n"
            "hazards.TRIAL_SECONDS = 0.2\n"
            "os.register_at_fork(after_in_child=lambda: time.sleep(900))",
            ["after the imports, a forked process hangs for more than 0.2 seconds"],
            id="a fork that hangs",
        ),
    ],
)
def test_a_hazard(project: Project, module: str, expected: list[str] | None) -> None:
    """Each is found, and names the module where that is known."""
    if expected is not None:
        assert hazards(project, module) == expected
        return
    folder, file = hazards(project, module)
    assert re.fullmatch(
        rf"importing `case` created the temporary folder `DIR/a\w+`, {DELETED}", folder
    )
    assert re.fullmatch(rf"importing `case` created the temporary file `DIR/b\w+`, {DELETED}", file)


def test_a_manager_of_multiprocessing(project: Project) -> None:
    """It has a process, and a pipe to it."""
    messages = hazards(
        project,
        "import multiprocessing\n"
        "manager = multiprocessing.get_context('fork').Manager()\n"
        "end = manager.shutdown",
    )
    assert any("(pipe)" in message for message in messages)
    assert any(message.startswith("an import started the process #") for message in messages)


@pytest.mark.parametrize(
    "module",
    [
        "import threading\nthread = threading.Thread(target=print)\nthread.start()\nthread.join()",
        "import logging\nhandler = logging.FileHandler('log')",
        "import os\ndevices = [open(path) for path in ('/dev/null', '/dev/urandom', '/proc/stat')]",
        "import os\nfolder = os.open('.', os.O_RDONLY)",
        "import os\nmemory = os.memfd_create('memory')",
        "import mmap\nwith open('case.py') as file:\n"
        "    memory = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)\n"
        "memory.close()",
        "import tempfile\nwith tempfile.TemporaryDirectory(): pass",
        "import subprocess\nsubprocess.run(['true'])",
        "import os, subprocess\nprocess = subprocess.Popen(['true'])\n"
        "os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)",
        "import socket\nconnection = socket.socket()\ncycle = [connection]\ncycle.append(cycle)\n"
        "connection = cycle = None",
        "import multiprocessing.synchronize",
    ],
)
def test_what_is_safe(project: Project, module: str) -> None:
    """Also what ended, was closed or deleted before the imports did."""
    assert hazards(project, module) == []


def test_threads_that_end_slowly_are_safe(project: Project) -> None:
    """On a machine where other processes run, for which a thread has to wait at its end."""
    module = (
        "import _thread, time, types\n"
        "from rvrun.warm import hazards\n"
        "def pause(seconds): time.sleep(0.3)\n"
        "hazards.time = types.SimpleNamespace(sleep=pause, monotonic=time.monotonic)\n"
        "_thread.start_new_thread(time.sleep, (1,))\n"
    )
    assert hazards(project, module) == []


LIBRARIES = (
    *("numpy", "scipy.linalg", "rasterio", "PIL.Image", "sklearn.ensemble", "boto3", "pydantic"),
    *("tqdm", "matplotlib.pyplot", "pandas", "pyarrow", "grpc", "torch"),
    "rastervision.pipeline",
)


@pytest.mark.parametrize("library", LIBRARIES)
def test_libraries_are_safe(project: Project, library: str) -> None:
    """Importing them is not a hazard, although some start threads: those handle a fork."""
    if importlib.util.find_spec(library.partition(".")[0]) is None:
        pytest.skip(f"{library} is not installed")
    # What it uses is compiled and its caches exist, so it imports as in a second run.
    assert hazards(project, f"import {library}") == []


def test_threads_of_openblas_end_at_a_fork(project: Project) -> None:
    """Also after they were used; they start anew in a target."""
    pytest.importorskip("numpy")
    module = """
import os
import numpy
A = numpy.ones((500, 500))
B = A @ A
def end():
    if os.fork() == 0:
        os._exit(0 if (A @ A == B).all() else 1)
    assert os.wait()[1] == 0
"""
    assert hazards(project, module) == []


def test_jemalloc_works_after_a_fork(project: Project) -> None:
    """Its background thread is not there, and it allocates and frees memory."""
    pytest.importorskip("pyarrow")
    module = """
import os
import pyarrow, pyarrow.compute
POOL = pyarrow.jemalloc_memory_pool()
def end():
    if os.fork() == 0:
        for size in [*range(1, 10_000, 100), 10**6, 10**7]:
            array = pyarrow.array(range(size // 10), memory_pool=POOL)
            pyarrow.compute.sum(array)
            del array
        os._exit(0)
    assert os.wait()[1] == 0
"""
    assert hazards(project, module) == []


def test_what_was_there_before_does_not_count(project: Project) -> None:
    """The preloader has a socket, and may have more."""
    before = """
import socket, subprocess, threading, time
pair = socket.socketpair()
threading.Thread(target=time.sleep, args=[3], daemon=True).start()
process = subprocess.Popen(["sleep", "3"])
"""
    assert hazards(project, "", before) == []


def test_cuda_is_noticed(project: Project) -> None:
    """As PyTorch reports it, which cannot have it here."""
    project.write("torch/__init__.py", "from torch import cuda")
    project.write("torch/cuda.py", "def is_initialized(): return True")
    assert hazards(project, "import torch") == [
        "an import initialized CUDA in PyTorch, which does not work in a forked process"
    ]


def test_the_audit_hook_is_inert_afterwards(project: Project) -> None:
    module = """
def end():
    from rvrun.warm import hazards
    assert hazards._recorder.starts is None
"""
    assert hazards(project, module) == []


def descriptor(target: str, flags: int = 0, mode: int = stat.S_IFREG) -> Descriptor:
    return Descriptor(7, target, flags, mode)


@pytest.mark.parametrize(
    ("opened", "expected"),
    [
        (
            descriptor("/dev/nvidia0", os.O_RDWR, stat.S_IFCHR),
            "opened the GPU device `/dev/nvidia0`, which does not work in a forked process",
        ),
        (
            descriptor("/dev/nvidiactl", os.O_RDWR, stat.S_IFCHR),
            "opened the GPU device `/dev/nvidiactl`, which does not work in a forked process",
        ),
        (
            descriptor("/dev/kfd", os.O_RDWR, stat.S_IFCHR),
            "opened the GPU device `/dev/kfd`, which does not work in a forked process",
        ),
        (descriptor("/dev/kvm", os.O_RDWR, stat.S_IFCHR), f"opened `/dev/kvm`, {SHARED}"),
        (descriptor("/dev/nullable", 0, stat.S_IFCHR), f"opened `/dev/nullable`, {SHARED}"),
        (
            descriptor("socket:[12]", os.O_RDWR, stat.S_IFSOCK),
            f"opened descriptor 7 (socket), {SHARED}",
        ),
        (descriptor("anon_inode:inotify", 0, 0), f"opened descriptor 7 (inotify), {SHARED}"),
        (descriptor("anon_inode:[eventfd:3]", 0, 0), f"opened descriptor 7 (eventfd), {SHARED}"),
        (descriptor("/a/fifo", os.O_RDONLY, stat.S_IFIFO), f"opened `/a/fifo`, {SHARED}"),
        (descriptor("/a/file", os.O_RDONLY), f"left `/a/file` open, {POSITION}"),
        (descriptor("/a/file (deleted)", os.O_RDWR), f"left `/a/file` open, {POSITION}"),
        (descriptor("/a/file", os.O_RDONLY | os.O_APPEND), f"left `/a/file` open, {POSITION}"),
        (descriptor("/a/file", os.O_WRONLY | os.O_APPEND), ""),
        (descriptor("/a", os.O_RDONLY | os.O_DIRECTORY, stat.S_IFDIR), ""),
        (descriptor("/dev/null", os.O_RDWR, stat.S_IFCHR), ""),
        (descriptor("/dev/urandom", os.O_RDONLY, stat.S_IFCHR), ""),
        (descriptor("/dev/pts/3", os.O_RDWR, stat.S_IFCHR), ""),
        (descriptor("/memfd:doublemapper (deleted)", os.O_RDWR), ""),
        (descriptor("/proc/1/stat", os.O_RDONLY), ""),
        (descriptor("/proj/proj.db", os.O_RDONLY), ""),
        (descriptor("/proj/proj.db", os.O_RDWR), f"left `/proj/proj.db` open, {POSITION}"),
    ],
)
def test_descriptors(opened: Descriptor, expected: str) -> None:
    assert describe_problem(opened) == expected


@pytest.mark.parametrize(
    ("text", "flags"),
    [
        ("pos:\t0\nflags:\t02001\nmnt_id:\t29\n", os.O_WRONLY | os.O_APPEND),
        ("pos:\t0\nflags:\t02\n", os.O_RDWR),
        ("", 0),
    ],
)
def test_flags_of_a_descriptor(text: str, flags: int) -> None:
    assert parse_flags(text) == flags


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("12 (sleep) S 7 12 7 0 -1", ("S", 7)),
        ("12 (a) R 1 (b) Z 7 12", ("Z", 7)),
        ("", ("X", 0)),
    ],
)
def test_the_state_and_parent_of_a_process(text: str, expected: tuple[str, int]) -> None:
    """The name of a process can contain anything."""
    assert parse_stat(text) == expected
