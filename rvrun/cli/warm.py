"""`rvrun warm`: runs any command with warm workers for the Makefiles below it."""

from __future__ import annotations

from typing import Annotated

import typer

from rvrun.cli.messages import say
from rvrun.cli.options import argument, read_common


def warm(
    context: typer.Context,
    command: Annotated[
        list[str], argument(metavar="COMMAND ...", help="The command, such as `make -j8`.")
    ],
) -> int:
    """Run a command, such as make, with fast targets.

    Rendered Makefiles that run below the command fork their targets from a process that has
    imported the code of their configs, instead of importing it for each target. `rvrun run local`
    does so by itself. That process ends with the command.

    - `rvrun warm make -j8 -C runs/my_config`
    - `rvrun warm -- make -j8 -C runs/my_config my_config/predict`
    """
    from rvrun.settings.layers import load_settings
    from rvrun.settings.schema import MachineSettings
    from rvrun.warm.command import run_command

    common = read_common(context)

    def note(text: str, is_harmless: bool) -> None:
        if common.verbose or not (is_harmless or common.quiet):
            say(f"rvrun: {text}")

    machine = load_settings(profile=common.profile).of(MachineSettings)
    return run_command(command, note, machine.import_after_fork)


warm.context_settings = {"allow_interspersed_args": False}  # type: ignore[attr-defined]
