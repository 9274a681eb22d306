"""`rvrun run_command`: the worker of one target.

`rvrun.__main__` parses the usual form of this call itself, without this package, because every
target pays for it. This verb is for the other forms, and for `--help`.
"""

from __future__ import annotations

from typing import Annotated

from rvrun.cli.options import argument, option
from rvrun.worker import target
from rvrun.worker.call import Call


def run_command(
    config: Annotated[str, argument(metavar="CONFIG", help="A saved config (`.json`).")],
    command: Annotated[str, argument(metavar="COMMAND", help="The command to run.")],
    split_ind: Annotated[
        int | None, option("--split-ind", metavar="I", help="Index of the split, from 0.")
    ] = None,
    num_splits: Annotated[
        int | None, option("--num-splits", metavar="N", help="Number of splits.")
    ] = None,
    runner: Annotated[
        str | None, option("--runner", metavar="NAME", help="The runner that started this job.")
    ] = None,
    torchrun: Annotated[
        str | None,
        option(
            "--torchrun",
            metavar="P",
            help="Run under torchrun, with P processes on each host of the job, or `gpu`.",
        ),
    ] = None,
) -> int:
    """Run one target in this process.

    The target is a command of a saved config, or one split of it.

    - `rvrun run_command runs/tiny/config/tiny.json count --split-ind 3 --num-splits 4`
    """
    call = Call(config, command, split_ind, num_splits, runner=runner, torchrun=torchrun)
    return target.run_command(call)
