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

    Completes verbs, options, runners, profiles, the commands and arguments of CONFIG, targets, and
    the ids of runs. Reads files to do so, and never runs your code.

    - `rvrun completion bash >> ~/.bashrc`
    - `rvrun completion fish > ~/.config/fish/completions/rvrun.fish`
    """
    from typer.completion import get_completion_script  # type: ignore[attr-defined]

    if shell is Shell.BASH:
        # bash would end a word at the `@` of `@latest`.
        print("COMP_WORDBREAKS=${COMP_WORDBREAKS//@}")
    print(get_completion_script(prog_name="rvrun", complete_var=COMPLETION, shell=shell.value))
