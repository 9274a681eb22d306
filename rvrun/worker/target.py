"""The worker: one target, in a process of its own.

    rvrun run_command CONFIG COMMAND [--split-ind I --num-splits N] [--runner NAME] [--torchrun P]

On the hot path of every target, so it imports next to nothing; what is rare is imported where it
is needed. What it was told in the environment, by the Makefile or by `rvrun run local`:

    RVRUN_RUN_DIR   the run directory, where its record goes; unset: no record
    RVRUN_LOGS      set: what it prints goes to its log in the run directory
    RVRUN_EVENTS    the descriptor of a pipe on which it tells when it starts and ends
    RVRUN_VERBOSITY how much other systems' pipelines are to tell: 1, 2, …

As a job on AWS (`--runner batch` or `sagemaker`) it is told which split is its own in ways of the
runner's; see `placement`. It says on stderr what it begins and how that ended, for the job's log.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import stat
import sys
import time

from rvrun import paths
from rvrun.adapters import registry as foreign
from rvrun.aws import storage
from rvrun.errors import FAILED, INTERRUPTED, INVALID, RvrunError, UserCodeError, check_known
from rvrun.pipelines import imports as resolve
from rvrun.pipelines.base import Pipeline, PipelineConfig
from rvrun.rundir.records import Recorder, peak_memory_kib
from rvrun.worker import split_index as placement

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from contextlib import AbstractContextManager
    from types import TracebackType
    from typing import Any, NoReturn

    from rvrun.settings.schema import LocalSettings

RUN_DIR = "RVRUN_RUN_DIR"
LOGS = "RVRUN_LOGS"
EVENTS = "RVRUN_EVENTS"
VERBOSITY = "RVRUN_VERBOSITY"
#: Environment variables of rvrun that are no settings.
INTERNAL = (RUN_DIR, LOGS, EVENTS, VERBOSITY, placement.SPLITS, placement.RESOURCE_CONFIG)

#: Signals that ask a target to end.
ENDING = (signal.SIGTERM, signal.SIGHUP)


class BadCall(RvrunError):
    """A call of `run_command` that names no target."""


class Call:
    """One call of `run_command`: which target of which config, started by which runner.

    `torchrun` is how many processes torchrun is to start here; None if it is not to.
    """

    def __init__(
        self,
        config: str,
        command: str,
        split_ind: int | None = None,
        num_splits: int | None = None,
        *,
        runner: str = "local",
        torchrun: str | None = None,
        verbosity: int = 0,
    ) -> None:
        if torchrun is not None and runner != placement.SAGEMAKER:
            raise BadCall(f"run_command {command}: --torchrun is for --runner sagemaker")
        if runner in placement.REMOTE and split_ind is None and num_splits:
            split_ind = placement.split_of(runner, num_splits)
        _check_split(command, split_ind, num_splits)
        self.config = config
        self.command = command
        self.split_ind = split_ind
        self.num_splits = num_splits
        self.runner = runner
        self.torchrun = torchrun
        self.verbosity = verbosity

    @property
    def is_remote(self) -> bool:
        """Whether it is a job in a container of its own, on another machine."""
        return self.runner in placement.REMOTE

    @property
    def is_split(self) -> bool:
        return self.split_ind is not None

    @property
    def words(self) -> list[str]:
        """How it is spelled after `rvrun`, but for torchrun."""
        split = ["--split-ind", str(self.split_ind), "--num-splits", str(self.num_splits)]
        words = ["run_command", self.config, self.command, *(split if self.is_split else [])]
        return [*words, "--runner", self.runner]

    def target(self, pipeline: str) -> str:
        """Its target's path below `records/` and `logs/`."""
        return paths.target(pipeline, self.command, self.split_ind, self.num_splits)

    def name(self, pipeline: str) -> str:
        """Its target's name."""
        split = f"/{self.split_ind}" if self.is_split else ""
        return f"{pipeline}/{self.command}{split}"


def _check_split(command: str, split_ind: int | None, num_splits: int | None) -> None:
    place = f"run_command {command}"
    if split_ind is None and num_splits is None:
        return
    if split_ind is None:
        raise BadCall(f"{place}: --num-splits without --split-ind; give both")
    if num_splits is None:
        raise BadCall(f"{place}: --split-ind without --num-splits; give both")
    if num_splits < 1 or not 0 <= split_ind < num_splits:
        raise BadCall(
            f"{place}: --split-ind {split_ind} is not one of --num-splits {num_splits}"
            + (f" (0 to {num_splits - 1})" if num_splits > 0 else "; N is at least 1")
        )


def run_command(call: Call) -> int:
    """Run one target and return its exit code.

    1: the user's command raised; its traceback, from its own first frame on, was printed.
    2: there is no such target. 130: interrupted. A `SystemExit` of the user's keeps its code.
    Where torchrun is to start it, this process becomes torchrun and does not return.
    """
    if call.torchrun is not None:
        from rvrun.worker import torchrun as hosts

        hosts.run_under_torchrun(call.torchrun, call.words)
    environment = {name: os.environ.pop(name, "") for name in INTERNAL}
    document = read_document(call.config)
    pipeline = pipeline_name(document)
    call.verbosity = call.verbosity or _whole(environment[VERBOSITY])
    run_dir = environment[RUN_DIR]
    for each in ENDING:
        signal.signal(each, _end)
    log = {}
    if run_dir and environment[LOGS]:
        log["log_offset"] = _print_to(os.path.join(run_dir, paths.log(call.target(pipeline))))
    recorder = Recorder(run_dir, call.target(pipeline)) if run_dir else None
    tell = _Teller(environment[EVENTS])
    if recorder:
        recorder.start(**log)
    tell(f"start {call.name(pipeline)}")
    started = _announce(call, pipeline)
    code = _outcome(call, document, recorder)
    if call.is_remote:
        _announce_end(call, pipeline, code, started)
    if recorder:
        recorder.end(code)
    tell(f"end {call.name(pipeline)} {code}")
    return code


def _announce(call: Call, pipeline: str) -> float:
    """Say on stderr, in the log of a job, what begins; the time."""
    if call.is_remote:
        of = f" of {call.num_splits}" if call.is_split else ""
        attempt = placement.attempt(call.runner)
        _say(f"{call.name(pipeline)}{of}" + (f", try {attempt}" if attempt else ""))
    return time.monotonic()


def _announce_end(call: Call, pipeline: str, code: int, started: float) -> None:
    how = "done" if code == 0 else f"failed (exit {code})"
    facts = f"after {time.monotonic() - started:.1f} s, {peak_memory_kib() // 1024} MiB at most"
    _say(f"{call.name(pipeline)} {how} {facts}")


def _say(text: str) -> None:
    print(f"rvrun: {text}", file=sys.stderr, flush=True)


def _outcome(call: Call, document: dict[str, Any], recorder: Recorder | None) -> int:
    try:
        _work(call, document, recorder)
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


def _work(call: Call, document: dict[str, Any], recorder: Recorder | None) -> None:
    with contextlib.ExitStack() as stack:
        pipeline = stack.enter_context(opened(document, call))
        check_runs(pipeline, call)
        method = getattr(pipeline, call.command)
        if call.command in pipeline.gpu_commands and not call.is_remote:
            device = stack.enter_context(gpu_slot())
            if recorder:
                recorder.note("gpu", device=device)
        if call.is_split:
            method(split_ind=call.split_ind, num_splits=call.num_splits)
        else:
            method()


def read_document(path: str) -> dict[str, Any]:
    """The saved config at `path`, or at an S3 URI, as JSON values."""
    content = storage.read(path)
    try:
        document = json.loads(content)
    except ValueError as error:
        raise BadCall(f"config {path} is not JSON ({error})") from None
    if foreign.is_own(document):
        return foreign.wrapped(document)
    if not isinstance(document, dict) or not isinstance(document.get("config"), dict):
        raise BadCall(f"{path} is no saved config of one pipeline")
    return document


def pipeline_name(document: dict[str, Any]) -> str:
    """The name of the pipeline of a saved config."""
    return str(document.get("name") or document["config"].get("name", ""))


def opened(document: dict[str, Any], call: Call) -> AbstractContextManager[Any]:
    """Within, the pipeline of the config in `document`, ready for the command of `call`."""
    adapter = foreign.of_document(document)
    if adapter is None:
        return contextlib.nullcontext(build(document, call.config))
    return adapter.opened(document, call, call.verbosity)


def built(document: dict[str, Any], path: str) -> AbstractContextManager[Any]:
    """Within, the pipeline of the config in `document`, which was read from `path`."""
    adapter = foreign.of_document(document)
    if adapter is None:
        return contextlib.nullcontext(build(document, path))
    return adapter.built(document)


def build(document: dict[str, Any], path: str) -> Pipeline:
    """The pipeline of the config in `document`, which was read from `path`.

    Its source file, if it has one, is imported for that.
    """
    if document.get("source"):
        resolve.import_source(document["source"])
    saved = document["config"]
    config = resolve.plain_config(
        resolve.config_class(saved.get(resolve.TYPE), PipelineConfig), saved
    )
    if config is None:
        from rvrun.load.source import check_document
        from rvrun.pipelines.serialize import config_from_json

        check_document(document, path)
        config = config_from_json(saved)
    assert isinstance(config, PipelineConfig)
    return config.build()


def check_runs(pipeline: Any, call: Call) -> None:
    """Raise `RvrunError` unless `call` names a command of `pipeline`, split if that is."""
    name = type(pipeline).__name__
    check_known("command", call.command, tuple(pipeline.commands), f"pipeline `{name}`")
    is_split = call.command in pipeline.split_commands
    if is_split and not call.is_split:
        raise BadCall(f"run_command {call.command}: give --split-ind and --num-splits")
    if call.is_split and not is_split:
        raise BadCall(
            f"run_command {call.command}: not one of the `split_commands` of `{name}`, so "
            "--split-ind and --num-splits cannot be given"
        )


@contextlib.contextmanager
def gpu_slot(local: LocalSettings | None = None) -> Iterator[str | None]:
    """Hold one of the machine's GPU slots; gives its device and shows it to CUDA alone.

    `local`: the settings that say how many there are; those in force if not given.
    """
    from rvrun.worker.gpu_slots import find_gpus, slot

    if local is None:
        from rvrun.settings.schema import load_settings

        local = load_settings().local
    with slot(local.gpus or find_gpus(), local.gpu_slots, local.gpu_locks) as device:
        if device is not None:
            os.environ["CUDA_VISIBLE_DEVICES"] = device
        yield device


class _Ended(SystemExit):
    """A signal asked this target to end."""


def _end(signum: int, frame: object) -> NoReturn:
    """A signal handler: end as if by `sys.exit`, so that the user's `finally` blocks run."""
    for each in ENDING:
        signal.signal(each, _ignore)
    raise _Ended(128 + signum)


def _ignore(signum: int, frame: object) -> None:
    """A signal handler for what was asked already: make and `rvrun run local` both ask."""


def _whole(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() else 0


def exit_code_of(error: SystemExit) -> int:
    """The exit code that Python would end with; it prints what is no code."""
    if error.code is None:
        return 0
    if isinstance(error.code, int):
        return error.code
    print(error.code, file=sys.stderr)
    return FAILED


def _print_to(path: str) -> int:
    """Let all that this process and its children print be added to the file at `path`.

    Gives the size that the file has before, in bytes.
    """
    os.makedirs(os.path.dirname(path), exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    return os.fstat(1).st_size


class _Teller:
    """Tells on a pipe of `rvrun run local`, where there is one, what this target does."""

    def __init__(self, descriptor: str) -> None:
        self._descriptor: int | None = None
        with contextlib.suppress(ValueError, OSError):
            number = int(descriptor)
            if stat.S_ISFIFO(os.fstat(number).st_mode):
                os.set_inheritable(number, False)
                self._descriptor = number

    def __call__(self, line: str) -> None:
        if self._descriptor is not None:
            with contextlib.suppress(OSError):
                os.write(self._descriptor, f"{line}\n".encode())


def print_error(error: RvrunError) -> None:
    """Print one sentence, after the user's own traceback where their code raised."""
    if isinstance(error, UserCodeError) and error.__cause__ is not None:
        print_traceback(error.__cause__)
    print(f"rvrun: {error}", file=sys.stderr)


def print_traceback(error: BaseException) -> None:
    """Print `error`'s traceback to stderr, without the frames of rvrun that led to it."""
    import traceback

    traceback.print_exception(type(error), error, user_frames(error.__traceback__))


def user_frames(frames: TracebackType | None) -> TracebackType | None:
    """`frames` from the first on that is not rvrun's, nor Python's import of the user's file."""
    own = os.path.dirname(os.path.dirname(__file__))
    while frames is not None:
        file = frames.tb_frame.f_code.co_filename
        if not file.startswith((own, "<frozen importlib")) and "importlib" not in file:
            return frames
        frames = frames.tb_next
    return None


OPTIONS = ("--split-ind", "--num-splits", "--runner", "--torchrun")


def parse(argv: Sequence[str]) -> Call | None:
    """The call that `argv` (what follows `run_command`) spells in the usual way.

    None for all else: that is for the command line's own parser to read, or to refuse.
    """
    words = list(argv)
    options: dict[str, str] = {}
    while len(words) > 2:
        value, name = words.pop(), words.pop()
        if name not in OPTIONS or name in options:
            return None
        options[name] = value
    if len(words) != 2 or any(word.startswith("-") for word in words):
        return None
    runner, torchrun = options.pop("--runner", "local"), options.pop("--torchrun", None)
    if runner not in ("local", *placement.REMOTE):
        return None
    if not all(value.isascii() and value.isdigit() for value in options.values()):
        return None
    numbers = {name: int(value) for name, value in options.items()}
    config, command = words
    split_ind, num_splits = numbers.get("--split-ind"), numbers.get("--num-splits")
    return Call(config, command, split_ind, num_splits, runner=runner, torchrun=torchrun)


def main(argv: Sequence[str]) -> int | None:
    """`rvrun run_command`, without a command-line library; None where that is needed."""
    try:
        call = parse(argv)
        return None if call is None else run_command(call)
    except RvrunError as error:
        print(f"rvrun: {error}", file=sys.stderr)
        return INVALID
