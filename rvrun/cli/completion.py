"""`rvrun completion`: the scripts that complete rvrun's command line in a shell."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from rvrun.cli.options import Argument, Verb

SHELLS = ("bash", "zsh", "fish")
#: The environment variable that asks rvrun for completions instead of running a verb.
VARIABLE = "_RVRUN_COMPLETE"


@click.command(cls=Verb)
@click.argument(
    "shell", cls=Argument, type=click.Choice(SHELLS), metavar="SHELL", help="bash, zsh or fish."
)
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print a shell's completion script.

    - `rvrun completion bash >> ~/.bashrc`
    - `rvrun completion fish > ~/.config/fish/completions/rvrun.fish`
    """
    script = get_completion_class(shell)
    assert script is not None, f"click supports {shell}"
    print(script(context.find_root().command, {}, "rvrun", VARIABLE).source())
