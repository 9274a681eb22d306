"""A pipeline whose targets note what they find in their process, and end in many ways."""

from __future__ import annotations

import atexit
import ctypes
import gc
import json
import locale
import logging
import multiprocessing
import os
import pathlib
import random
import resource
import secrets
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
import warnings
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import numpy

import rvrun

print("import: print")
os.write(1, b"import: os.write\n")
print("import: print to stderr", file=sys.stderr)
subprocess.run(["echo", "import: a program"], check=False)
warnings.warn("import: a warning", stacklevel=1)
sys.stdout.write("import: no newline;")

PYTHON = random.Random()
SEEDED_PYTHON = random.Random(1)
NUMPY = numpy.random.default_rng()
SEEDED_NUMPY = numpy.random.default_rng(1)
FOUND_AT_IMPORT = {
    "argv": sys.argv[:2],
    "cwd": os.getcwd(),
    "variable": os.environ.get("VARIABLE"),
    "main": sys.modules["__main__"].__name__,
}
COUNTER: list[int] = []
LOG = open("imported.txt", "a")  # noqa: SIM115 - left open for the end of the process
LOG.write("written by an import\n")


class Finalized:
    """Says when it is destroyed."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __del__(self) -> None:
        os.write(1, f"{self.name} is finalized\n".encode())


IMPORTED = Finalized("what an import made")
HELD: list[Any] = []


def on_user_signal(signum: int, frame: object) -> None:
    print("a handler set by an import", flush=True)


signal.signal(signal.SIGUSR1, on_user_signal)
signal.signal(signal.SIGUSR2, signal.SIG_IGN)


@atexit.register
def at_exit_of_import() -> None:
    print("registered by an import")


def square(number: int) -> int:
    return number * number


def child_says(queue: Any, number: int) -> None:
    queue.put((number, numpy.random.random(), COUNTER))


def described(stream: Any) -> dict[str, Any]:
    names = ("name", "mode", "encoding", "errors", "line_buffering", "write_through", "newlines")
    facts = {name: getattr(stream, name, None) for name in names}
    return facts | {
        "class": str(type(stream)),
        "tty": stream.isatty(),
        "descriptor": stream.fileno(),
        "raw": repr(stream.buffer.raw),
    }


def descriptors() -> dict[str, str]:
    listed = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            path = os.readlink(f"/proc/self/fd/{name}")
            text = pathlib.Path(f"/proc/self/fdinfo/{name}").read_text()
        except OSError:
            continue
        flags = int(text.split("flags:")[1].split()[0], 8)
        listed[name] = f"{path} {flags:o} {'inherited' if os.get_inheritable(int(name)) else ''}"
    return listed


def status(*names: str) -> dict[str, str]:
    pairs = (line.split(":\t", 1) for line in open("/proc/self/status") if ":\t" in line)
    return {name: value.strip() for name, value in pairs if name in names}


def world() -> dict[str, Any]:
    """What a process can find out about itself."""
    main = sys.modules["__main__"]
    names = [name for name in dir(resource) if name.startswith("RLIMIT_")]
    return {
        "at import": FOUND_AT_IMPORT,
        "leads its group": os.getpgid(0) == os.getpid(),
        "cwd": os.getcwd(),
        "umask": status("Umask"),
        "environ": dict(os.environ),
        "environ of a child": subprocess.run(["env", "-0"], capture_output=True).stdout.decode(
            errors="surrogateescape"
        ),
        "argv": sys.argv,
        "orig_argv": sys.orig_argv,
        "path": sys.path,
        "flags": str(sys.flags),
        "main": [repr(getattr(main, n, None)) for n in ("__name__", "__file__", "__package__")],
        "main spec": repr(main.__spec__),
        "main names": sorted(vars(main)),
        "streams": [described(s) for s in (sys.stdin, sys.stdout, sys.stderr)],
        "same streams": [
            sys.stdin is sys.__stdin__, sys.stdout is sys.__stdout__, sys.stderr is sys.__stderr__
        ],
        "descriptors": descriptors(),
        "signals": {int(n): str(signal.getsignal(n)) for n in signal.valid_signals()},
        "masks": status("SigBlk", "SigIgn", "SigCgt", "SigPnd", "ShdPnd", "Threads", "NoNewPrivs"),
        "limits": {name: resource.getrlimit(getattr(resource, name)) for name in names},
        "nice": os.nice(0),
        "cpus": sorted(os.sched_getaffinity(0)),
        "scheduler": os.sched_getscheduler(0),
        "threads": [thread.name for thread in threading.enumerate()],
        "main thread": threading.current_thread() is threading.main_thread(),
        "collector": [gc.isenabled(), gc.get_threshold(), gc.callbacks == []],
        "interpreter": [
            sys.getrecursionlimit(), sys.getswitchinterval(), sys.dont_write_bytecode,
            repr(sys.excepthook), repr(sys.unraisablehook), repr(sys.displayhook),
            repr(threading.excepthook), repr(sys.gettrace()), repr(sys.getprofile()),
            [repr(finder) for finder in sys.meta_path], len(sys.path_hooks), sys.pycache_prefix,
        ],
        "process": [multiprocessing.current_process().name, multiprocessing.get_start_method()],
        "filters": [repr(entry) for entry in warnings.filters],
        "locale": locale.setlocale(locale.LC_ALL),
        "time zone": time.tzname,
        "logging": [repr(handler) for handler in logging.root.handlers],
        "wakeup": signal.set_wakeup_fd(-1),
        "is forked": "warm_worker" in pathlib.Path(f"/proc/{os.getppid()}/cmdline").read_text(),
        "counter": COUNTER,
        "seeded": [SEEDED_PYTHON.random(), SEEDED_NUMPY.random()],
        "children": subprocess.run(["true"]).returncode,
        "waiting children": waits(),
        "small time": time.process_time() < 5,
        "tempdir": tempfile.gettempdir(),
        "stdin": None if sys.stdin.isatty() else sys.stdin.read(20),
        "root": os.readlink("/proc/self/root"),
        "exe": os.readlink("/proc/self/exe"),
    }


def waits() -> str:
    try:
        return str(os.waitpid(-1, os.WNOHANG))
    except ChildProcessError:
        return "none"


def drawn() -> dict[str, Any]:
    return {
        "random": random.random(),
        "Random": PYTHON.random(),
        "numpy": numpy.random.random(),
        "default_rng": NUMPY.random(),
        "new default_rng": numpy.random.default_rng().random(),
        "uuid": str(uuid.uuid4()),
        "uuid1": str(uuid.uuid1()),
        "secrets": secrets.token_hex(),
        "tempfile": tempfile.mktemp(),
        "hash": hash("text"),
    }


class WorldConfig(rvrun.PipelineConfig):


    def build(self) -> World:
        return World(self)


class World(rvrun.Pipeline):
    """Each command is a way to end, except for `draw` and `look`."""

    split_commands = ("draw",)
    gpu_commands = ("gpu",)
    commands = (
        "look", "draw", "gpu",
        "raises", "raises_group", "exits_3", "exits_none", "exits_text", "exits_big", "exits_true",
        "quits", "exits_in_thread", "raises_in_thread", "unflushed", "at_exit",
        "at_exit_raises", "at_exit_exits", "finalizes", "leaves_thread", "leaves_daemon",
        "segfaults", "kills_itself", "aborts", "leaks", "after_leak", "forks", "spawns",
        "starts_servers", "pool_fork", "executor", "program", "big", "small", "handler",
        "replaces_streams", "closes_streams", "interrupts", "forks_and_returns", "warns",
        "recurses", "cyclic", "at_exit_thread", "weak", "logs", "full",
    )
    needs = {name: [] for name in commands} | {"after_leak": ["leaks"]}

    def note(self, name: str, value: Any) -> None:
        path = pathlib.Path(self.config.root_uri, f"{name}.json")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(value))

    def count_items(self, command: str) -> int:
        return 50

    def look(self) -> None:
        self.note("look", world())

    def draw(self, split_ind: int, num_splits: int) -> None:
        self.note(f"draw-{split_ind}", drawn())

    def gpu(self) -> None:
        print("device", os.environ.get("CUDA_VISIBLE_DEVICES"))

    def raises(self) -> None:
        print("before", end="")
        try:
            {}["key"]
        except KeyError as error:
            raise ValueError("wrong\nin two lines") from error

    def raises_group(self) -> None:
        raise ExceptionGroup("both", [ValueError("one"), TypeError("two")])

    def exits_3(self) -> None:
        sys.exit(3)

    def exits_none(self) -> None:
        sys.exit()

    def exits_text(self) -> None:
        sys.exit("a text")

    def exits_big(self) -> None:
        sys.exit(258)

    def exits_true(self) -> None:
        sys.exit(True)

    def quits(self) -> None:
        print("not flushed")
        os._exit(7)

    def exits_in_thread(self) -> None:
        thread = threading.Thread(target=sys.exit, args=(5,))
        thread.start()
        thread.join()

    def raises_in_thread(self) -> None:
        thread = threading.Thread(target=square, args=("text",), name="worker")
        thread.start()
        thread.join()

    def unflushed(self) -> None:
        sys.stdout.reconfigure(line_buffering=False)
        sys.stdout.write("left in the buffer of stdout")
        HELD.append(open("opened.txt", "w"))
        HELD[0].write("left in the buffer of a file")
        LOG.write("left in the buffer of an imported file\n")

    def at_exit(self) -> None:
        atexit.register(print, "registered first")
        atexit.register(os.write, 1, b"registered second\n")
        atexit.register(atexit.register, print, "registered at exit")
        print("last line of the command")

    def at_exit_raises(self) -> None:
        atexit.register(print, "registered first")
        atexit.register(square, "text")

    def at_exit_exits(self) -> None:
        atexit.register(print, "registered first")
        atexit.register(sys.exit, 9)

    def finalizes(self) -> None:
        HELD.append(Finalized("a global"))
        self.held = Finalized("an attribute")
        local = Finalized("a local variable")
        print(local.name)

    def cyclic(self) -> None:
        cycle = Finalized("a cycle")
        cycle.itself = cycle
        del cycle
        HELD.append(Finalized("one of a cycle"))
        HELD[0].itself = HELD

    def weak(self) -> None:
        import weakref

        held = Finalized("what is referred to weakly")
        HELD.append(held)
        weakref.finalize(held, print, "a finalizer")
        HELD.append(tempfile.TemporaryDirectory(prefix="left-"))
        HELD.append(tempfile.NamedTemporaryFile(prefix="left-"))
        pathlib.Path("left.txt").write_text("\n".join(item.name for item in HELD[1:]))

    def leaves_thread(self) -> None:
        def work() -> None:
            time.sleep(0.3)
            print("the thread is done")
            atexit.register(print, "registered by the thread")

        threading.Thread(target=work).start()

    def leaves_daemon(self) -> None:
        threading.Thread(target=time.sleep, args=(100,), daemon=True).start()

    def at_exit_thread(self) -> None:
        from concurrent.futures import ThreadPoolExecutor

        HELD.append(ThreadPoolExecutor(2))
        HELD[0].submit(time.sleep, 0.2).add_done_callback(lambda _: print("done"))

    def segfaults(self) -> None:
        print("flushed", flush=True)
        ctypes.string_at(0)

    def kills_itself(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def aborts(self) -> None:
        os.abort()

    def leaks(self) -> None:
        COUNTER.append(1)
        os.environ["LEAKED"] = "yes"
        os.chdir("/")
        os.umask(0)
        sys.path.append("/leaked")
        sys.modules["leaked"] = sys
        logging.basicConfig(level=0)
        locale.setlocale(locale.LC_ALL, "C")
        random.seed(1)
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        threading.Thread(target=time.sleep, args=(100,), daemon=True).start()

    def after_leak(self) -> None:
        self.note("after_leak", world() | {"leaked": "leaked" in sys.modules})

    def forks(self) -> None:
        self.multiprocessing("fork")

    def spawns(self) -> None:
        self.multiprocessing("spawn")

    def starts_servers(self) -> None:
        self.multiprocessing("forkserver")

    def multiprocessing(self, method: str) -> None:
        context = multiprocessing.get_context(method)
        queue = context.Queue()
        children = [context.Process(target=child_says, args=(queue, n)) for n in range(2)]
        for child in children:
            child.start()
        numbers = sorted(queue.get()[0] for _ in children)
        for child in children:
            child.join()
        print(method, numbers, [child.exitcode for child in children])

    def pool_fork(self) -> None:
        with multiprocessing.Pool(2) as pool:
            print(pool.map(square, range(5)))
        HELD.append(multiprocessing.Pool(2))
        print(HELD[0].map(square, range(5)))

    def executor(self) -> None:
        with ProcessPoolExecutor(2) as executor:
            print(list(executor.map(square, range(5))))
        HELD.append(ProcessPoolExecutor(2))
        print(HELD[0].submit(square, 4).result())

    def program(self) -> None:
        script = "import os, sys; print(os.getpgid(0) == os.getppid(), os.listdir('/proc/self/fd'))"
        print("started by", flush=True)
        subprocess.run([sys.executable, "-c", script], check=True)
        subprocess.run("echo $0; trap; ulimit -a; umask; grep -E 'Sig(Blk|Ign|Cgt)' /proc/self/status",
                       shell=True, check=True)
        os.system("ls -l /proc/self/fd | awk '{print $9, $10}'")

    def big(self) -> None:
        self.note("big", len(bytes(200 << 20)))
        memory = bytearray(200 << 20)
        memory[:: 4096] = b"1" * len(memory[:: 4096])

    def small(self) -> None:
        self.note("small", 1)

    def handler(self) -> None:
        os.kill(os.getpid(), signal.SIGUSR1)
        os.kill(os.getpid(), signal.SIGUSR2)
        print("still there")

    def replaces_streams(self) -> None:
        import io

        sys.stdout = io.TextIOWrapper(open("replaced.txt", "wb"), write_through=False)
        print("to another file")
        sys.stderr = None

    def closes_streams(self) -> None:
        sys.stdout.close()
        os.close(2)

    def full(self) -> None:
        sys.stdout.flush()
        os.dup2(os.open("/dev/full", os.O_WRONLY), 1)
        sys.stdout.reconfigure(line_buffering=False)
        print("does not fit")

    def interrupts(self) -> None:
        signal.raise_signal(signal.SIGINT)

    def forks_and_returns(self) -> None:
        sys.stdout.flush()
        if os.fork() == 0:
            print("the child", flush=True)
            self.note("forked", os.getpid())
            os._exit(0)
        os.wait()
        print("the parent")

    def warns(self) -> None:
        warnings.warn("deprecated", DeprecationWarning, stacklevel=1)
        warnings.warn("import: a warning", stacklevel=1)
        logging.warning("a line of logging")

    def recurses(self) -> None:
        def deeper() -> None:
            deeper()

        try:
            deeper()
        except RecursionError:
            print("too deep")

    def logs(self) -> None:
        for number in range(3):
            print("out", number)
            os.write(1, b"written\n")
            print("err", number, file=sys.stderr)
            subprocess.run(["echo", "a program"], check=True)


def get_config(runner: str) -> WorldConfig:
    return WorldConfig(root_uri="out")
