"""Run one target in this process.

    rvrun run_command CONFIG COMMAND [--split-ind I --num-splits N] [--runner NAME] [--torchrun P]

Every target goes through here, so this module imports next to nothing and imports rarely needed
modules where they are needed. `environment` lists what the Makefile and `rvrun run` pass on.

A job of a detached runner (`--runner`) determines its split from its environment, and says on
stderr what it runs and how that ended, for the job's log.
"""

from __future__ import annotations

# The part of `signal` that is in C: its enums take time to import and to use.
import _signal  # type: ignore[import-not-found]
import atexit
import contextlib
import functools
import os
import stat
import sys
import time

from rvrun import environment, paths, signals
from rvrun.errors import DONE, FAILED, INTERRUPTED, INVALID, RvrunError
from rvrun.inputs import check_arguments, from_os_error, parse_integer, writing
from rvrun.rundir.own_files import open_own
from rvrun.rundir.planned_stage import PlannedStage
from rvrun.rundir.records import WARNING, Recorder, peak_memory_kib
from rvrun.rundir.target_lock import (
    is_always_make,
    lock_target,
    newest,
    release,
    renew_stamp,
    start_of,
    touch_stamp,
    was_done_since,
)
from rvrun.tracebacks import exit_code_of, print_error, print_traceback
from rvrun.worker.call import parse
from rvrun.worker.forks import keep_from_forks
from rvrun.worker.limits import Limits, read_limits
from rvrun.worker.pipeline import (
    check_command,
    declared_files,
    opened,
    pipeline_name,
    read_document,
    run_items,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager
    from typing import Any, NoReturn

    from rvrun.rundir.declared_files import DeclaredFiles
    from rvrun.settings.schema import MachineSettings
    from rvrun.worker.attempts import Attempt
    from rvrun.worker.call import Call
    from rvrun.worker.item_work import ItemWork

#: Signals that end a target.
ENDING = (_signal.SIGTERM, _signal.SIGHUP, _signal.SIGQUIT)


class Start:
    """What differs between a process that was started for a target, and one that was forked.

    - `parent`: the process that decided to run the target, which is make.
    - `document`: the saved config, if it has been read already.
    - `show_imports`: is called where a process imports the user's code.
    - `shared_kib`: the resident memory at the start that this process shares with others, in KiB.
    """

    def __init__(
        self,
        parent: int | None = None,
        document: dict[str, Any] | None = None,
        show_imports: Callable[[], None] = lambda: None,
        shared_kib: int = 0,
    ) -> None:
        self.parent = os.getppid() if parent is None else parent
        self.document = document
        self.show_imports = show_imports
        self.shared_kib = shared_kib


def main(argv: Sequence[str], start: Start | None = None) -> int | None:
    """Run the target that `argv`, the words after `run_command`, spells; return its exit code.

    Returns None where only the full command line can parse `argv`.
    """
    try:
        check_arguments(argv)
        call = parse(argv)
        return None if call is None else run_command(call, start)
    except RvrunError as error:
        print_error(error)
    except OSError as error:
        print_error(from_os_error(error))
    return INVALID


def run_command(call: Call, start: Start | None = None) -> int:
    """Run one target and return its exit code.

    1: the user's command raised; its traceback, from its own first frame on, was printed.
    2: there is no such target. 128 + N: ended by signal N. A `SystemExit` of the user's code keeps
    its code. With torchrun, this process becomes torchrun and does not return.
    """
    if call.torchrun is not None:
        from rvrun.worker.torchrun import run_under_torchrun

        run_under_torchrun(call.torchrun, call.job.hosts(os.environ), call.words)
    # Removed, so that a command of the user's that runs rvrun does not report as this target.
    variables = {name: os.environ.pop(name, "") for name in environment.INTERNAL}
    start = start or Start()
    document = read_document(call.config) if start.document is None else start.document
    call.verbosity = call.verbosity or parse_integer(variables[environment.VERBOSITY]) or 0
    keep_from_forks((_end, _ignore), ENDING)
    target = _Target(call, document, start, _EventPipe(variables[environment.EVENTS]))
    run_dir = variables[environment.RUN_DIR]
    target.in_container = bool(call.job or variables[environment.IN_CONTAINER])
    if run_dir:
        target.limit(run_dir)
    _handle_signals(_end)
    if not run_dir:
        return target.run()
    _keep_lock_from_programs(run_dir, variables[environment.LOCK])
    # Released after all that the user's code does at exit: functions registered first run last, and
    # after all threads.
    atexit.register(release, lock_target(run_dir, target.path, target.announce))
    return target.run_once(run_dir, has_log=bool(variables[environment.LOGS]))


class _Target:
    """A target on its way: its call, its config, and where it reports."""

    def __init__(
        self, call: Call, document: dict[str, Any], start: Start, events: _EventPipe
    ) -> None:
        self.call = call
        self.document = document
        self.start = start
        self.pipeline = pipeline_name(document, call.config)
        self.name = call.name(self.pipeline)
        self.path = call.target(self.pipeline)
        self.report = events
        self.run_dir = ""
        self.in_container = False
        self.newest = 0
        self.stage: PlannedStage | None = None
        self.files: DeclaredFiles | None = None
        self.failure: RvrunError | None = None
        self.work: ItemWork | None = None
        self.recorder: Recorder | None = None
        self.limits = Limits()
        self.attempt: Attempt | None = None

    def limit(self, run_dir: str) -> None:
        """Find the limits of this target; with some of them, this process becomes an attempt."""
        self.limits = read_limits(run_dir, self.pipeline, self.call.command)
        if self.limits.needs_supervisor:
            from rvrun.worker.attempts import supervise

            record = os.path.join(run_dir, paths.record(self.path))
            self.attempt = supervise(self.limits, record, self.name, self.report)

    def begin(self) -> None:
        """Start the clock of the time limit, right before the command is called."""
        if self.attempt is not None:
            self.attempt.begin()

    def shared(self) -> AbstractContextManager[None]:
        """Hold the CPUs and the memory that this target declares."""
        # A job has its machine to itself, and a command typed by hand is not limited.
        needed = (self.limits.vcpus, self.limits.memory_mib)
        if self.call.job is not None or needed == (0, 0):
            return contextlib.nullcontext()
        from rvrun.settings.layers import load_settings
        from rvrun.settings.schema import MachineSettings
        from rvrun.worker.gpu_slots import own_folder
        from rvrun.worker.machine import limits_of
        from rvrun.worker.shares import share

        machine = load_settings().of(MachineSettings)
        folder = machine.gpu_locks or own_folder()
        return share(folder, needed, limits_of(machine), self.announce)

    def announce(self, text: str) -> None:
        """Say on stderr, and to `rvrun run`, what this target waits for."""
        _say(f"{self.name}: {text}")
        self.report(f"note {self.name}: {text}")

    def run_once(self, run_dir: str, *, has_log: bool) -> int:
        """Run this target of a run directory, unless another process has run it meanwhile.

        Call it with the target locked. make decided that the target is stale, and another process
        may have run it since then: while this one waited for the lock, or before, while its job
        waited for a slot of make's. With `make -B`, a target runs even then.
        """
        recorder = Recorder(run_dir, self.path)
        stage = self.stage = PlannedStage.read(run_dir, self.path)
        is_forced = is_always_make(os.environ.get("MAKEFLAGS", ""))
        if not is_forced and was_done_since(run_dir, stage, self._decided):
            recorder.note("skip", pid=os.getpid())
            _say(f"{self.name}: not run, because another process has just done it")
            self.report(f"end {self.name} {DONE}")
            return DONE
        self.run_dir = run_dir
        self._read_inputs(stage)
        self.newest = newest(run_dir, stage.prerequisites)
        if stage.items and self.failure is None:
            from rvrun.worker.item_work import ItemWork

            config = self.document["config"]
            self.work = ItemWork(run_dir, stage, config, is_forced=is_forced)
            if not self.work.unfinished:
                return self._skip_items(recorder)
        facts = {}
        if has_log:
            facts["log_offset"] = _redirect_output(os.path.join(run_dir, paths.log(self.path)))
        if self.start.shared_kib:
            facts["shared_memory_kib"] = self.start.shared_kib
        recorder.start(**facts)
        self.recorder = recorder
        return self.run()

    @property
    def ends_with_command(self) -> bool:
        """Whether nobody has to learn how the command ended, other than from the exit code."""
        return self.recorder is None and self.call.job is None and not self.report.is_open

    def _read_inputs(self, stage: PlannedStage) -> None:
        """Check the declared inputs, and let their fingerprint describe what this target reads.

        Before its items are looked at, which depend on the fingerprint. What is wrong fails the
        target once it has a record and a log.
        """
        if not (stage.inputs or stage.outputs):
            return
        from rvrun.rundir.declared_files import of_plan

        self.files = of_plan(stage, self.name)
        try:
            self.files.check_inputs()
            self.files.refresh_fingerprint(self.run_dir, stage)
        except RvrunError as error:
            self.failure = error

    def _skip_items(self, recorder: Recorder) -> int:
        """Stamp a split of which all items are done; nothing that needs it becomes stale."""
        assert self.work is not None
        recorder.note("skip", pid=os.getpid())
        _say(f"{self.name}: not run, because all of its items are done")
        code = self._touch(functools.partial(renew_stamp, least=max(self.newest, self.work.newest)))
        self.report(f"end {self.name} {code}")
        return code

    def _decided(self) -> float:
        return start_of(self.start.parent)

    def run(self) -> int:
        """Run this target, report its start and its end, and return its exit code."""
        self.report(f"start {self.name} {os.getpid()}")
        with _announced(self.call, self.name) as outcome:
            code = outcome["code"] = _run(self)
        # A signal that arrives now must not lose what is done.
        _handle_signals(_ignore, (*ENDING, _signal.SIGINT))
        facts: dict[str, object] = {}
        if self.attempt:
            code = self.attempt.final_code(code)
            if self.attempt.is_late:
                facts["timeout_seconds"] = limit = self.limits.timeout_seconds
                _say(f"{self.name}: ended after its limit of {limit} s (timeout_seconds)")
        if self.recorder:
            code = self._stamp() if code == DONE else code
            if self.work is not None:
                self.recorder.note("items", done=self.work.num_done, of=len(self.work.positions))
            # The record is written before the event: whoever reads the event may read the record.
            self.recorder.end(code, **facts)
        if not (self.attempt and self.attempt.will_retry(code)):
            self.report(f"end {self.name} {code}")
        # Threads of the user's may keep this process, which must be possible to end.
        _handle_signals(_signal.SIG_DFL, (*ENDING, _signal.SIGINT))
        return code

    def _stamp(self) -> int:
        """Touch the stamp of this target, which is done, and return the exit code.

        Before anything else, so that as little as possible can come between; and with the lock
        held, so that a process that waits for it sees the stamp.
        """
        return self._touch(functools.partial(touch_stamp, least=self.newest))

    def _touch(self, touch: Callable[[str, PlannedStage], None]) -> int:
        assert self.stage is not None, "a target of a run directory"
        try:
            touch(self.run_dir, self.stage)
            if self.files is not None:
                self.files.check_shared(self.run_dir, self.stage)
        except FileNotFoundError:
            # A run with another number of splits, or other items, has begun meanwhile, and removed
            # the folder: the target does not count any more.
            return DONE
        except RvrunError as error:
            print_error(error)
            return error.exit_code
        except OSError as error:
            _say(f"{self.name}: its stamp cannot be touched: {error.strerror}: {error.filename}")
            return FAILED
        return DONE


@contextlib.contextmanager
def _announced(call: Call, name: str) -> Iterator[dict[str, int]]:
    """Print to a job's log what starts and how it ended; the caller sets `code` in the dict."""
    outcome: dict[str, int] = {}
    if call.job is None:
        yield outcome
        return
    of = f" of {call.num_splits}" if call.is_split else ""
    attempt = call.job.attempt(os.environ)
    _say(f"{name}{of}" + (f", attempt {attempt}" if attempt else ""))
    started = time.monotonic()
    yield outcome
    code = outcome["code"]
    how = "done" if code == 0 else f"failed (exit {code})"
    seconds, memory = time.monotonic() - started, peak_memory_kib() // 1024
    _say(f"{name} {how} after {seconds:.1f} s, peak memory {memory} MiB")


def _say(text: str) -> None:
    # A message that cannot be written must not make the target fail.
    with contextlib.suppress(OSError):
        print(f"rvrun: {text}", file=sys.stderr, flush=True)


def _run(target: _Target) -> int:
    """Run the command and return the exit code of what it did or raised."""
    try:
        signals.raise_on_interrupt()
        _call_method(target)
    except RvrunError as error:
        return _report(error)
    except _Ended as error:
        return _end_children(error)
    except SystemExit as error:
        return exit_code_of(error)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BaseException as error:  # noqa: BLE001 - the user's code may raise anything
        print_traceback(error)
        return FAILED
    return DONE


def _report(error: RvrunError) -> int:
    """Print an error, and return the exit code."""
    # A signal while the user's module is imported looks like an error of theirs.
    if isinstance(error.__cause__, _Ended):
        return _end_children(error.__cause__)
    print_error(error)
    return error.exit_code


def _end_children(error: _Ended) -> int:
    """End what this target has started, after a signal; return the exit code."""
    from rvrun.processes import end_children

    end_children()
    return exit_code_of(error)


def _call_method(target: _Target) -> None:
    call = target.call
    if target.failure is not None:
        raise target.failure
    with contextlib.ExitStack() as stack:
        warn = functools.partial(warn_user, target.recorder)
        target.start.show_imports()
        pipeline = stack.enter_context(opened(target.document, call, warn))
        check_command(pipeline, call)
        if target.stage is None:
            # A job, or by hand.
            target.files = declared_files(pipeline, target.document, call, target.name)
            if target.files is not None:
                target.files.check_inputs()
        set_up_program(pipeline, target)
        method = getattr(pipeline, call.command)
        stack.enter_context(target.shared())
        if target.recorder and (target.limits.vcpus or target.limits.memory_mib):
            # From here on it runs; before, it may have waited.
            target.recorder.note("share")
        # A job has its GPUs to itself.
        if call.command in pipeline.gpu_commands and call.job is None:
            device = stack.enter_context(gpu_slot(target.announce))
            if target.recorder:
                target.recorder.note("gpu", device=device)
        target.begin()
        if target.work is not None:
            run_items(target.work, pipeline, target.document, call.command)
        elif call.command in pipeline.split_commands:
            # Without split options all of it, as Raster Vision's own worker does.
            call_split(pipeline, method, call.command, call.split_ind or 0, call.num_splits or 1)
        else:
            method()
    if target.files is not None:
        target.files.check_outputs()


def set_up_program(pipeline: Any, target: _Target) -> None:
    """Prepare a pipeline of programs for one target; a program may replace this process."""
    if not hasattr(type(pipeline), "in_container"):
        return
    call = target.call
    pipeline.in_container = target.in_container
    if target.run_dir:
        pipeline.place = os.path.abspath(os.path.join(target.run_dir, target.path))
    # Whether this process has nothing to do after the command.
    may_end = target.ends_with_command and target.files is None
    if may_end and call.command not in pipeline.gpu_commands:
        invocation = pipeline.last_invocation(call.command, call.split_ind, call.num_splits)
        if invocation is not None:
            invocation.become()


def call_split(
    pipeline: Any, method: Callable[..., Any], command: str, split_ind: int, num_splits: int
) -> None:
    """Call the method of a split command for its share, whatever is done already."""
    field = getattr(pipeline, "items", {}).get(command)
    if field is None:
        method(split_ind=split_ind, num_splits=num_splits)
        return
    from rvrun.worker.item_work import run_share

    run_share(pipeline.config, field, method, split_ind, num_splits)


def warn_user(recorder: Recorder | None, text: str) -> None:
    """Print a warning, and record it, so that it is shown at the end of the run, too."""
    print(f"rvrun: warning: {text}", file=sys.stderr, flush=True)
    if recorder:
        recorder.note(WARNING, text=text)


@contextlib.contextmanager
def gpu_slot(
    announce: Callable[[str], None], machine: MachineSettings | None = None
) -> Iterator[str | None]:
    """Hold one of the machine's GPU slots, show only its device to CUDA, and yield the device.

    - `announce`: is called once with what this process waits for, if it has to wait.
    - `machine`: the settings that limit the slots; None reads the settings in force.
    """
    from rvrun.worker.gpu_slots import find_gpus, slot

    if machine is None:
        from rvrun.settings.layers import load_settings
        from rvrun.settings.schema import MachineSettings

        machine = load_settings().of(MachineSettings)
    devices = machine.gpus or find_gpus()
    with slot(devices, machine.gpu_slots, machine.gpu_locks, announce) as device:
        if device is not None:
            os.environ["CUDA_VISIBLE_DEVICES"] = device
        yield device


class _Ended(SystemExit):
    """A signal asked this target to end."""


def _handle_signals(
    handler: Callable[[int, object], None] | int,
    numbers: Sequence[int] = ENDING,
) -> None:
    """Handle the signals that ask a target to end, except those that are ignored.

    nohup ignores SIGHUP for all that it starts, and shells do SIGQUIT for background jobs.
    """
    for number in numbers:
        if _signal.getsignal(number) is not _signal.SIG_IGN:
            _signal.signal(number, handler)


def _end(signum: int, frame: object) -> NoReturn:
    """Handle a signal as `sys.exit` would, so that the user's `finally` blocks run."""
    # make and `rvrun run` both ask: a second signal must not interrupt the user's cleanup.
    _handle_signals(_ignore)
    raise _Ended(signals.SIGNALLED + signum)


def _ignore(signum: int, frame: object) -> None:
    """Handle a signal by ignoring it. Unlike SIG_IGN, child processes do not inherit this."""


def _keep_lock_from_programs(run_dir: str, descriptor: str) -> None:
    """Keep the lock of the run directory from the programs that the user's code starts.

    This process has it from `rvrun run`, and holds it as long as it works. A program that it leaves
    behind, such as a server, would hold it for ever.
    """
    with contextlib.suppress(ValueError, OSError):
        number = int(descriptor)
        # The number may be another file by now, if something between closed the lock.
        lock = os.stat(os.path.join(run_dir, paths.LOCK))
        if os.path.samestat(os.fstat(number), lock):
            os.set_inheritable(number, False)  # noqa: FBT003 - it takes no keywords


def _redirect_output(path: str) -> int:
    """Append all output of this process and its children to the file at `path`.

    Returns the size of the file before, in bytes. Raises `CannotWrite` or `LinkInTheWay`.
    """
    with writing(path):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        # O_NONBLOCK: opening a FIFO for writing would wait for a reader.
        descriptor = open_own(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NONBLOCK)
    os.set_blocking(descriptor, True)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    return os.fstat(1).st_size


class _EventPipe:
    """Reports on the pipe of `rvrun run`, if there is one, when this target starts and ends."""

    def __init__(self, descriptor: str) -> None:
        self._descriptor: int | None = None
        number = parse_integer(descriptor)
        # OverflowError: a number that no descriptor can have.
        with contextlib.suppress(OverflowError, OSError):
            if number is None:
                return
            # The number may be another file by now, if something between closed the pipe.
            if stat.S_ISFIFO(os.fstat(number).st_mode):
                # The user's processes would keep the pipe open after this target has ended.
                os.set_inheritable(number, False)  # noqa: FBT003 - accepts no keywords
                self._descriptor = number

    @property
    def is_open(self) -> bool:
        return self._descriptor is not None

    def __call__(self, line: str) -> None:
        if self._descriptor is not None:
            with contextlib.suppress(OSError):
                os.write(self._descriptor, f"{line}\n".encode())
