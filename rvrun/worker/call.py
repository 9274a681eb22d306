"""Parse a call of `rvrun run_command`, and determine its split."""

from __future__ import annotations

from rvrun import paths
from rvrun.errors import Problem
from rvrun.inputs import parse_integer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

OPTIONS = ("--split-ind", "--num-splits", "--runner", "--torchrun")


class BadCall(Problem):
    """A call of `run_command` that does not name a target."""


class Call:
    """Which target of which config to run, and the runner that started it.

    - `runner`: None, as in Makefiles, where no runner has a say in how the target runs.
    - `job`: the module of a detached runner, whose targets are jobs with a machine of their own;
      None for targets that share this machine.
    - `torchrun`: how many processes torchrun starts on this host; None to run without torchrun.

    Raises `BadCall`, `UnknownSplit`, or `UnknownName` for the runner.
    """

    def __init__(
        self,
        config: str,
        command: str,
        split_ind: int | None = None,
        num_splits: int | None = None,
        *,
        runner: str | None = None,
        torchrun: str | None = None,
        verbosity: int = 0,
    ) -> None:
        self.job = _detached(runner)
        if torchrun is not None and not (self.job and self.job.CAPABILITIES.multi_host):
            name = f"runner `{runner}`" if runner else "a call without --runner"
            raise BadCall(
                f"run_command {command}: --torchrun needs a runner whose jobs have several hosts, "
                f"got {name}"
            )
        if runner is not None and self.job and split_ind is None and num_splits:
            from rvrun.worker.split_index import split_of

            split_ind = split_of(runner, num_splits)
        check_split(command, split_ind, num_splits)
        self.config = config
        self.command = command
        self.split_ind = split_ind
        self.num_splits = num_splits
        self.runner = runner
        self.torchrun = torchrun
        self.verbosity = verbosity

    @property
    def is_split(self) -> bool:
        return self.split_ind is not None

    @property
    def words(self) -> list[str]:
        """The words after `rvrun` that spell this call, without torchrun."""
        split = ["--split-ind", str(self.split_ind), "--num-splits", str(self.num_splits)]
        runner = ["--runner", self.runner] if self.runner else []
        return [
            "run_command",
            self.config,
            self.command,
            *(split if self.is_split else []),
            *runner,
        ]

    def target(self, pipeline: str) -> str:
        """Return the target's path below `records/` and `logs/`."""
        return paths.target(pipeline, self.command, self.split_ind, self.num_splits)

    def name(self, pipeline: str) -> str:
        """Return the target's name: `tiny/chip/3`."""
        split = f"/{self.split_ind}" if self.is_split else ""
        return f"{pipeline}/{self.command}{split}"


def _detached(runner: str | None) -> Any:
    """The module of `runner` if its targets are jobs elsewhere.

    A Makefile's recipes name no runner, so that its targets do not pay for the lookup.
    """
    if runner is None:
        return None
    from rvrun import plugins

    module = plugins.load_runner(runner)
    return module if module.CAPABILITIES.detached else None


def check_split(command: str, split_ind: int | None, num_splits: int | None) -> None:
    """Raise `BadCall` unless both numbers are given and fit, or neither is given."""
    place = f"run_command {command}"
    if split_ind is None and num_splits is None:
        return
    if split_ind is None:
        raise BadCall(f"{place}: --num-splits requires --split-ind; give both")
    if num_splits is None:
        raise BadCall(f"{place}: --split-ind requires --num-splits; give both")
    if num_splits < 1:
        raise BadCall(f"{place}: --num-splits must be at least 1, got {num_splits}")
    if not 0 <= split_ind < num_splits:
        raise BadCall(
            f"{place}: --split-ind must be between 0 and {num_splits - 1}, got {split_ind}"
        )


def parse(argv: Sequence[str]) -> Call | None:
    """Parse the words after `run_command` in the spelling that Makefiles and job specs use.

    Returns None for every other spelling: the full command line parses or refuses it. Reading
    these few words here saves each target the import of a command-line library.
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
    runner, torchrun = options.pop("--runner", None), options.pop("--torchrun", None)
    numbers = {name: parse_integer(value) for name, value in options.items()}
    if None in numbers.values():
        return None
    config, command = words
    split_ind, num_splits = numbers.get("--split-ind"), numbers.get("--num-splits")
    return Call(config, command, split_ind, num_splits, runner=runner, torchrun=torchrun)
