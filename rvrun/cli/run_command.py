"""`rvrun run_command`: the worker of one target.

`rvrun.__main__` parses the usual form of this call itself, without this package, because every
target pays for it. This verb is for the other forms, and for `--help`.
"""

from __future__ import annotations

import click

from rvrun.cli.options import Argument, Verb
from rvrun.worker import target
from rvrun.worker.call import Call


@click.command("run_command", cls=Verb)
@click.argument("config", cls=Argument, metavar="CONFIG", help="A saved config (`.json`).")
@click.argument("command", cls=Argument, metavar="COMMAND", help="The command to run.")
@click.option("--split-ind", type=int, metavar="I", help="Index of the split, from 0.")
@click.option("--num-splits", type=int, metavar="N", help="Number of splits.")
@click.option("--runner", metavar="NAME", help="The runner that started this job.")
@click.option(
    "--torchrun",
    metavar="P",
    help="Run under torchrun, with P processes on each host of the job, or `gpu`.",
)
def run_command(
    config: str,
    command: str,
    *,
    split_ind: int | None,
    num_splits: int | None,
    runner: str | None,
    torchrun: str | None,
) -> int:
    """Run one target in this process.

    The target is a command of a saved config, or one split of it.

    - `rvrun run_command runs/tiny/config/tiny.json count --split-ind 3 --num-splits 4`
    """
    call = Call(config, command, split_ind, num_splits, runner=runner, torchrun=torchrun)
    return target.run_command(call)
