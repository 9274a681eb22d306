"""Run one target in this process.

    rvrun run_command CONFIG COMMAND [--split-ind I --num-splits N] [--runner NAME] [--torchrun P]

Every target goes through here, so this module imports next to nothing and imports rarely needed
modules where they are needed. `environment` lists what the Makefile and `rvrun run` pass on.

A job of a detached runner (`--runner`) determines its split from its environment, and says on
stderr what it runs and how that ended, for the job's log.
"""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import stat
import sys
import time

from rvrun import environment, paths
from rvrun.errors import FAILED, INTERRUPTED, INVALID, RvrunError
from rvrun.inputs import check_arguments, from_os_error, parse_integer, writing
from rvrun.rundir.records import WARNING, Recorder, peak_memory_kib
from rvrun.tracebacks import exit_code_of, print_error, print_traceback
from rvrun.worker.call import parse
from rvrun.worker.pipeline import check_command, opened, pipeline_name, read_document

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any, NoReturn

    from rvrun.settings.schema import MachineSettings
    from rvrun.worker.call import Call

#: Signals that end a target.
ENDING = (signal.SIGTERM, signal.SIGHUP)


def main(argv: Sequence[str]) -> int | None:
    """Run the target that `argv`, the words after `run_command`, spells; return its exit code.

    Returns None where only the full command line can parse `argv`.
    """
    try:
        check_arguments(argv)
        call = parse(argv)
        return None if call is None else run_command(call)
    except RvrunError as error:
        print_error(error)
    except OSError as error:
        print_error(from_os_error(error))
    return INVALID


def run_command(call: Call) -> int:
    """Run one target and return its exit code.

    1: the user's command raised; its traceback, from its own first frame on, was printed.
    2: there is no such target. 130: interrupted. A `SystemExit` of the user's code keeps its code.
    With torchrun, this process becomes torchrun and does not return.
    """
    if call.torchrun is not None:
        from rvrun.worker.torchrun import run_under_torchrun

        run_under_torchrun(call.torchrun, call.job.hosts(os.environ), call.words)
    # Removed, so that a command of the user's that runs rvrun does not report as this target.
    variables = {name: os.environ.pop(name, "") for name in environment.INTERNAL}
    document = read_document(call.config)
    pipeline = pipeline_name(document, call.config)
    call.verbosity = call.verbosity or parse_integer(variables[environment.VERBOSITY]) or 0
    for number in ENDING:
        signal.signal(number, _end)
    recorder, log = _start_log(call, pipeline, variables)
    report = _EventPipe(variables[environment.EVENTS])
    if recorder:
        recorder.start(**log)
    report(f"start {call.name(pipeline)}")
    with _announced(call, pipeline) as outcome:
        code = outcome["code"] = _run(call, document, recorder)
    # The record is written before the event: whoever reads the event may read the record.
    if recorder:
        recorder.end(code)
    report(f"end {call.name(pipeline)} {code}")
    return code


def _start_log(
    call: Call, pipeline: str, variables: dict[str, str]
) -> tuple[Recorder | None, dict[str, int]]:
    """The target's recorder, and where its output begins in its log, if it has these."""
    run_dir = variables[environment.RUN_DIR]
    if not run_dir:
        return None, {}
    target = call.target(pipeline)
    log = {}
    if variables[environment.LOGS]:
        log["log_offset"] = _redirect_output(os.path.join(run_dir, paths.log(target)))
    return Recorder(run_dir, target), log


@contextlib.contextmanager
def _announced(call: Call, pipeline: str) -> Iterator[dict[str, int]]:
    """Print to a job's log what starts and how it ended; the caller sets `code` in the dict."""
    outcome: dict[str, int] = {}
    if call.job is None:
        yield outcome
        return
    of = f" of {call.num_splits}" if call.is_split else ""
    attempt = call.job.attempt(os.environ)
    _say(f"{call.name(pipeline)}{of}" + (f", attempt {attempt}" if attempt else ""))
    started = time.monotonic()
    yield outcome
    code = outcome["code"]
    how = "done" if code == 0 else f"failed (exit {code})"
    seconds, memory = time.monotonic() - started, peak_memory_kib() // 1024
    _say(f"{call.name(pipeline)} {how} after {seconds:.1f} s, peak memory {memory} MiB")


def _say(text: str) -> None:
    print(f"rvrun: {text}", file=sys.stderr, flush=True)


def _run(call: Call, document: dict[str, Any], recorder: Recorder | None) -> int:
    """Run the command and return the exit code of what it did or raised."""
    try:
        _call_method(call, document, recorder)
    except RvrunError as error:
        print_error(error)
        return error.exit_code
    except _Ended as error:
        from rvrun.worker.processes import end_children

        end_children()
        return exit_code_of(error)
    except SystemExit as error:
        return exit_code_of(error)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BaseException as error:  # noqa: BLE001 - the user's code may raise anything
        print_traceback(error)
        return FAILED
    return 0


def _call_method(call: Call, document: dict[str, Any], recorder: Recorder | None) -> None:
    with contextlib.ExitStack() as stack:
        warn = functools.partial(warn_user, recorder)
        pipeline = stack.enter_context(opened(document, call, warn))
        check_command(pipeline, call)
        method = getattr(pipeline, call.command)
        # A job has its GPUs to itself.
        if call.command in pipeline.gpu_commands and call.job is None:
            device = stack.enter_context(gpu_slot())
            if recorder:
                recorder.note("gpu", device=device)
        if call.is_split:
            method(split_ind=call.split_ind, num_splits=call.num_splits)
        elif call.command in pipeline.split_commands:
            # All of it, as Raster Vision's own worker does without split options.
            method(split_ind=0, num_splits=1)
        else:
            method()


def warn_user(recorder: Recorder | None, text: str) -> None:
    """Print a warning, and record it, so that it is shown at the end of the run, too."""
    print(f"rvrun: warning: {text}", file=sys.stderr, flush=True)
    if recorder:
        recorder.note(WARNING, text=text)


@contextlib.contextmanager
def gpu_slot(machine: MachineSettings | None = None) -> Iterator[str | None]:
    """Hold one of the machine's GPU slots, show only its device to CUDA, and yield the device.

    - `machine`: the settings that limit the slots; None reads the settings in force.
    """
    from rvrun.worker.gpu_slots import find_gpus, slot

    if machine is None:
        from rvrun.settings.layers import load_settings
        from rvrun.settings.schema import MachineSettings

        machine = load_settings().of(MachineSettings)
    with slot(machine.gpus or find_gpus(), machine.gpu_slots, machine.gpu_locks) as device:
        if device is not None:
            os.environ["CUDA_VISIBLE_DEVICES"] = device
        yield device


class _Ended(SystemExit):
    """A signal asked this target to end."""


def _end(signum: int, frame: object) -> NoReturn:
    """Handle a signal as `sys.exit` would, so that the user's `finally` blocks run."""
    for number in ENDING:
        # make and `rvrun run` both ask: a second signal must not interrupt the user's cleanup.
        signal.signal(number, _ignore)
    raise _Ended(128 + signum)


def _ignore(signum: int, frame: object) -> None:
    """Handle a signal by ignoring it. Unlike SIG_IGN, child processes do not inherit this."""


def _redirect_output(path: str) -> int:
    """Append all output of this process and its children to the file at `path`.

    Returns the size of the file before, in bytes. Raises `CannotWrite`.
    """
    with writing(path):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        # O_NONBLOCK: opening a FIFO for writing would wait for a reader.
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NONBLOCK, 0o666)
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

    def __call__(self, line: str) -> None:
        if self._descriptor is not None:
            with contextlib.suppress(OSError):
                os.write(self._descriptor, f"{line}\n".encode())
