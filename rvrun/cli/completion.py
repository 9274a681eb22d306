"""`rvrun completion`: the scripts that complete rvrun's command line in a shell."""

from __future__ import annotations

import enum
from typing import Annotated

from rvrun.cli.options import COMPLETION, argument


class Shell(enum.StrEnum):
    """The shells that have a completion script."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


def completion(
    shell: Annotated[Shell, argument(metavar="SHELL", help="`bash`, `zsh` or `fish`.")],
) -> None:
    """Print a shell's completion script.

    - `rvrun completion bash >> ~/.bashrc`
    - `rvrun completion fish > ~/.config/fish/completions/rvrun.fish`
    """
    from typer.completion import get_completion_script  # type: ignore[attr-defined]

    print(get_completion_script(prog_name="rvrun", complete_var=COMPLETION, shell=shell.value))
