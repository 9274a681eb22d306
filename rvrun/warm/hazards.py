"""Find what would make it unsafe to fork targets after the imports of a pipeline.

`take_stock` looks at this process before the imports, and `find_hazards` after them: threads that a
fork would lose, CUDA, open descriptors and locks that all targets would share, temporary files that
the first target to end would delete, and child processes. Linux only, as it reads `/proc`.

In between, an audit hook records which module started what, so that a hazard can name it.
"""

from __future__ import annotations

import collections
import contextlib
import gc
import os
import re
import select
import signal
import stat
import sys
import time
import warnings
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import attrs

from rvrun.signals import name_of

#: Native threads that survive a fork although they are still there after a trial fork, by name.
#: jemalloc (in pyarrow) prepares its locks for a fork, and needs no background thread in the child.
SURVIVING_THREADS = frozenset({"jemalloc_bg_thd"})
#: How often to look, and every how many seconds, whether threads have ended that a trial fork has
#: shut down. Looks are counted, because time also passes while the machine runs other processes.
SHUTDOWN_LOOKS = 100
SHUTDOWN_POLL_SECONDS = 0.002
#: How long the child of a trial fork may take to end, in seconds.
TRIAL_SECONDS = 5.0
#: Device files that a GPU's driver keeps open.
GPU_DEVICE = re.compile(r"/dev/(?:nvidia|kfd$|dri/)")
#: Files whose descriptors have no state that processes could disturb: devices, memory (which is
#: mapped, not read from a position), and files of the kernel.
STATELESS = re.compile(
    r"/dev/(?:(?:null|zero|full|u?random|console)$|tty|pts/)|/memfd:|/proc/|/sys/"
)
#: Files whose library opens them again in a forked process, by the ends of their paths. PROJ does
#: so with its database (OSGeo/PROJ, pull requests 2845 and 4231), which imports of pyproj may open.
REOPENED = ("/proj.db",)
#: Audit events (Python documentation, "Audit events table").
THREAD_EVENTS = frozenset({"_thread.start_new_thread", "_thread.start_joinable_thread"})
TEMPORARY_EVENTS = frozenset({"tempfile.mkstemp", "tempfile.mkdtemp"})
EVENTS = THREAD_EVENTS | TEMPORARY_EVENTS | {"open", "socket.__new__", "subprocess.Popen"}
#: Files that Python itself opens to import modules.
MODULE_SUFFIXES = (".py", ".pyc", ".so")


@attrs.frozen
class Hazard:
    """A reason not to fork targets, as a sentence for one line."""

    message: str

    def __str__(self) -> str:
        return self.message


@attrs.frozen
class Descriptor:
    """An open file descriptor, read from `/proc/self/fd` and `/proc/self/fdinfo`."""

    number: int
    #: What it refers to: `/path`, `socket:[123]`, `anon_inode:[eventpoll]`.
    target: str
    #: The flags of open(2).
    flags: int
    #: The type and permissions of the file, from fstat(2).
    mode: int


@attrs.frozen
class Start:
    """Something that a module started while it was imported."""

    event: str
    #: A path, a weak reference to a thread or socket, or the words of a command.
    subject: Any
    #: The module that was being imported, or an empty string.
    module: str


@attrs.frozen
class Stock:
    """What a process had before the imports, and what they start."""

    threads: frozenset[int]
    descriptors: frozenset[tuple[int, str]]
    children: frozenset[int]
    locks: frozenset[int]
    #: Filled by the audit hook until `find_hazards` is called.
    starts: list[Start] = attrs.field(factory=list, eq=False)


class _Recorder:
    """Where the audit hook records, which is added once and cannot be removed."""

    def __init__(self) -> None:
        self.starts: list[Start] | None = None
        self.is_hooked = False


_recorder = _Recorder()


# A function, because Python calls it faster than a method: 0.2 instead of 0.6 µs if it is inert.
def _audit(event: str, args: tuple[Any, ...]) -> None:
    starts = _recorder.starts
    if starts is not None and event in EVENTS:
        subject = _subject(event, args)
        if subject is not None:
            starts.append(Start(event, subject, _importing_module()))


def take_stock() -> Stock:
    """Note the threads, descriptors and children of this process, and begin to watch imports."""
    stock = Stock(
        threads=frozenset(_native_threads()),
        descriptors=frozenset((d.number, d.target) for d in _descriptors()),
        children=frozenset(_children()),
        locks=frozenset(id(lock) for lock in _process_locks()),
    )
    _recorder.starts = stock.starts
    if not _recorder.is_hooked:
        _recorder.is_hooked = True
        sys.addaudithook(_audit)
    return stock


def find_hazards(before: Stock) -> list[Hazard]:
    """List what the imports since `before` did that makes it unsafe to fork.

    If nothing else is found, forks once for a trial: libraries that handle forks, such as OpenBLAS,
    then shut their threads down, and the threads that remain are a hazard.
    """
    _recorder.starts = None
    if next(_standing_hazards(before), None):
        # A socket or thread that nothing refers to any more may only wait for the collector.
        gc.collect()
    messages = [*_standing_hazards(before)] or [*_trial_hazards(before)]
    return [Hazard(message) for message in dict.fromkeys(messages)]


def _standing_hazards(before: Stock) -> Iterator[str]:
    """Yield what can be seen without a fork."""
    yield from _thread_hazards(before)
    yield from _cuda_hazards()
    yield from _descriptor_hazards(before)
    yield from _lock_hazards(before)
    yield from _temporary_hazards(before)
    yield from _child_hazards(before)


def _subject(event: str, args: tuple[Any, ...]) -> Any:
    """Return what a recorded event is about, or None if it is not of interest."""
    if event == "open":
        path = args[0]
        is_path = isinstance(path, str) and not path.endswith(MODULE_SUFFIXES)
        return os.path.abspath(path) if is_path else None
    if event in THREAD_EVENTS:
        thread = getattr(args[0], "__self__", None)
        return None if thread is None else _weak_reference(thread)
    if event == "socket.__new__":
        return _weak_reference(args[0])
    return args[0] if event in TEMPORARY_EVENTS else args[1]


def _weak_reference(value: object) -> Callable[[], Any] | None:
    try:
        return weakref.ref(value)
    except TypeError:
        return None


def _importing_module() -> str:
    """Return the module whose import is running the current code; empty if there is none."""
    frame = sys._getframe(2)  # noqa: SLF001
    while frame is not None:
        if frame.f_code.co_name == "<module>":
            name = str(frame.f_globals.get("__name__", ""))
            return "" if name == "__main__" else name
        frame = frame.f_back  # type: ignore[assignment]
    return ""


def _cause(module: str) -> str:
    return f"importing `{module}`" if module else "an import"


def _module_of(starts: Iterable[Start], events: Iterable[str], *subjects: object) -> str:
    """Return the module that caused one of the events with a subject, or an empty string."""
    for start in starts:
        subject = start.subject() if isinstance(start.subject, weakref.ref) else start.subject
        if start.event in events and any(subject is s or subject == s for s in subjects):
            return start.module
    return ""


# Threads


def _thread_hazards(before: Stock) -> Iterator[str]:
    """Python's threads, except for those that were there before."""
    threading = sys.modules.get("threading")
    if threading is None:
        return
    for thread in threading.enumerate():
        if thread.native_id not in before.threads and thread is not threading.main_thread():
            module = _module_of(before.starts, THREAD_EVENTS, thread) or _module_of_target(thread)
            yield f"{_cause(module)} started the thread `{thread.name}`, which a fork would lose"


def _module_of_target(thread: Any) -> str:
    """Return the module of the function that a thread runs; empty if it is Python's own."""
    # Python 3.11 raises no audit event for a thread.
    module = str(getattr(getattr(thread, "_target", None), "__module__", None) or "")
    return "" if module.partition(".")[0] in {*sys.stdlib_module_names, "__main__"} else module


def _trial_hazards(before: Stock) -> Iterator[str]:
    problem = _fork_once()
    if problem:
        yield problem
        return
    names = _remaining_threads(before.threads)
    for name, count in sorted(collections.Counter(names).items()):
        threads = "the thread" if count == 1 else f"{count} threads named"
        yield f"an import started {threads} `{name}`, which a fork would lose"


def _fork_once() -> str:
    """Fork a child that ends immediately. Return what went wrong, or an empty string."""
    reader, writer = os.pipe()
    with warnings.catch_warnings():
        # From Python 3.12, about the threads that this looks for.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        os._exit(0)
    os.close(writer)
    # The end of the pipe is the end of the child.
    is_ended = bool(select.select([reader], [], [], TRIAL_SECONDS)[0])
    os.close(reader)
    if not is_ended:
        os.kill(child, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if not is_ended:
        return f"after the imports, a forked process hangs for more than {TRIAL_SECONDS:g} seconds"
    if code < 0:
        return f"after the imports, a forked process is killed by {name_of(-code)}"
    return f"after the imports, a forked process fails with code {code}" if code else ""


def _remaining_threads(before: frozenset[int]) -> list[str]:
    """Return the names of new native threads, once those that are ending have ended."""
    for _ in range(SHUTDOWN_LOOKS):
        threads = {i: name for i, name in _native_threads().items() if i not in before}
        names = [name for name in threads.values() if name not in SURVIVING_THREADS]
        if not names:
            break
        time.sleep(SHUTDOWN_POLL_SECONDS)
    return names


def _native_threads() -> Mapping[int, str]:
    """Return the name of each thread of this process, by its id."""
    return {
        int(thread): _read(f"/proc/self/task/{thread}/comm").strip()
        for thread in os.listdir("/proc/self/task")
    }


# CUDA


def _cuda_hazards() -> Iterator[str]:
    is_initialized = getattr(sys.modules.get("torch.cuda"), "is_initialized", None)
    if is_initialized is not None and is_initialized():
        yield "an import initialized CUDA in PyTorch, which does not work in a forked process"


# Descriptors


def _descriptor_hazards(before: Stock) -> Iterator[str]:
    for descriptor in _descriptors():
        if (descriptor.number, descriptor.target) not in before.descriptors:
            problem = describe_problem(descriptor)
            if problem:
                yield f"{_cause(_opener(descriptor, before.starts))} {problem}"


def describe_problem(descriptor: Descriptor) -> str:
    """Return why targets cannot share an open descriptor, as a predicate; empty if they can."""
    target = descriptor.target.removesuffix(" (deleted)")
    is_append = descriptor.flags & os.O_ACCMODE != os.O_RDONLY and descriptor.flags & os.O_APPEND
    if GPU_DEVICE.match(target):
        return f"opened the GPU device `{target}`, which does not work in a forked process"
    if not target.startswith("/"):
        kind = target.removeprefix("anon_inode:").split(":")[0].strip("[]")
        return f"opened descriptor {descriptor.number} ({kind}), which targets would share"
    if is_append or stat.S_ISDIR(descriptor.mode) or STATELESS.match(target):
        return ""
    is_read_only = descriptor.flags & os.O_ACCMODE == os.O_RDONLY
    if is_read_only and target.endswith(REOPENED):
        return ""
    if stat.S_ISREG(descriptor.mode):
        return f"left `{target}` open, in which targets would share their position"
    return f"opened `{target}`, which targets would share"


def _descriptors() -> Iterator[Descriptor]:
    for name in os.listdir("/proc/self/fd"):
        # The descriptor of the listing itself is closed by now.
        with contextlib.suppress(FileNotFoundError):
            number = int(name)
            target = os.readlink(f"/proc/self/fd/{name}")
            flags = parse_flags(_read(f"/proc/self/fdinfo/{name}"))
            yield Descriptor(number, target, flags, os.fstat(number).st_mode)


def parse_flags(fdinfo: str) -> int:
    """Return the flags of open(2) from the text of `/proc/PID/fdinfo/FD`; 0 if it has none."""
    match = re.search(r"^flags:\s*([0-7]+)$", fdinfo, re.MULTILINE)
    return int(match[1], 8) if match else 0


def _opener(descriptor: Descriptor, starts: Iterable[Start]) -> str:
    for start in starts:
        if start.event == "socket.__new__":
            socket = start.subject()
            if socket is not None and socket.fileno() == descriptor.number:
                return start.module
    path = descriptor.target.removesuffix(" (deleted)")
    opened = (s for s in starts if s.event == "open" and os.path.realpath(s.subject) == path)
    return next((start.module for start in opened), "")


# Locks of multiprocessing


def _lock_hazards(before: Stock) -> Iterator[str]:
    count = sum(id(lock) not in before.locks for lock in _process_locks())
    if count:
        locks = "a lock" if count == 1 else f"{count} locks"
        yield f"an import created {locks} of `multiprocessing`, which targets would share"


def _process_locks() -> list[Any]:
    synchronize = sys.modules.get("multiprocessing.synchronize")
    if synchronize is None:
        return []
    kinds = {
        kind
        for kind in vars(synchronize).values()
        if isinstance(kind, type) and issubclass(kind, synchronize.SemLock)
    }
    return [value for value in gc.get_objects() if type(value) in kinds]


# Temporary files


def _temporary_hazards(before: Stock) -> Iterator[str]:
    for start in before.starts:
        if start.event in TEMPORARY_EVENTS and os.path.lexists(start.subject):
            kind = "folder" if os.path.isdir(start.subject) else "file"
            temporary = f"the temporary {kind} `{os.fsdecode(start.subject)}`"
            fault = "which the first target to end could delete"
            yield f"{_cause(start.module)} created {temporary}, {fault}"


# Child processes


def _child_hazards(before: Stock) -> Iterator[str]:
    for child in _children():
        if child not in before.children:
            command = _read(f"/proc/{child}/cmdline").rstrip("\0").split("\0")
            module = _module_of(before.starts, ["subprocess.Popen"], command)
            yield (
                f"{_cause(module)} started the process {child} (`{_shorten(command)}`), "
                "which would not be a child of the targets"
            )


def _shorten(command: list[str]) -> str:
    text = " ".join(command).replace("\n", " ")
    return text if len(text) <= 60 else f"{text[:57]}..."


def _children() -> list[int]:
    """Return the children of this process that are running."""
    if not _has_children():
        return []
    parent = os.getpid()
    processes = [int(name) for name in os.listdir("/proc") if name.isdecimal()]
    stats = {process: parse_stat(_read(f"/proc/{process}/stat")) for process in processes}
    return [process for process, (state, of) in stats.items() if of == parent and state not in "ZX"]


def _has_children() -> bool:
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def parse_stat(text: str) -> tuple[str, int]:
    """Return the state and the parent from the text of `/proc/PID/stat`; 0 if the process ended."""
    # The name, in parentheses, may itself have spaces and parentheses.
    fields = text.rpartition(")")[2].split()
    return (fields[0], int(fields[1])) if len(fields) > 1 else ("X", 0)


def _read(path: str) -> str:
    """Return the text of a file; empty if its process or thread has ended."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return ""
