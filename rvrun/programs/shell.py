"""`rvrun.shell`: run a program from a command of a pipeline in Python."""

from __future__ import annotations

import os

from rvrun.programs.process import Invocation
from rvrun.programs.program import SHELL, show
from rvrun.programs.script import compile_script
from rvrun.programs.template import BadTemplate, escape, to_text
from rvrun.text import quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def shell(
    command: str | Sequence[str | os.PathLike[str]],
    *,
    env: Mapping[str, str] | None = None,
    cwd: str | os.PathLike[str] | None = None,
    timeout: float | None = None,
    **values: object,
) -> None:
    """Run a program, and wait until it has succeeded.

    - `command`: the program and its arguments, which no shell sees; or a script for `sh -c`. A
      script of several lines stops at the first command that fails (`set -eu`).
    - `env`: more environment variables. `cwd`: where it runs. `timeout`: in seconds.
    - `values`: values for `{name}` in a script, each of which arrives exactly as it is.

        rvrun.shell(["gdal_translate", "-outsize", "50%", "0", source, target])
        rvrun.shell("gdalbuildvrt {target} {folder}/*.tif", target=target, folder=folder)

    What it prints goes where this process prints, the target's log. Raises `ProgramFailed` if it
    ends with another exit code than 0, which then is that of the target, without a traceback. If
    the target is interrupted, so is the program, with all that it has started.
    """
    shown = ""
    if isinstance(command, str):
        argv, shown = _script(command, {name: _to_text(name, v) for name, v in values.items()})
    elif values:
        raise TypeError(f"shell() accepts values only for a script, got {', '.join(values)}")
    else:
        argv = [os.fspath(word) for word in command]
        if not argv:
            raise ValueError("shell() requires a program, got an empty list")
    invocation = Invocation(
        argv,
        environment={**os.environ, **env} if env else None,
        directory=None if cwd is None else os.fspath(cwd),
        timeout=timeout,
        shown=shown,
    )
    invocation.run()


def _to_text(name: str, value: object) -> str:
    if value is None or isinstance(value, bytes | dict | list | set | tuple):
        # Python's notation of it is never meant.
        rule = f"a string, a number or a path for `{{{name}}}`"
        raise TypeError(f"shell() requires {rule}, got {quoted(value)}")
    return os.fspath(value) if isinstance(value, os.PathLike) else to_text(value)


def _script(script: str, values: Mapping[str, str]) -> tuple[list[str], str]:
    """Return the command line of a script, and the script with its values."""
    if not values:
        # Braces are the shell's own.
        head = "set -eu\n" if "\n" in script.strip() else ""
        return [SHELL, "-c", head + script], show(escape(script), {}, ())
    # The module imports `re`, which few workers need.
    from rvrun.programs.code import check_script

    try:
        compiled = compile_script(script)
        check_script(compiled.uses)
    except BadTemplate as error:
        raise ValueError(f"the script of shell() {error}") from None
    missing = [name for name in compiled.names if name not in values]
    if missing:
        names = ", ".join(values)
        raise ValueError(f"shell() requires a value for `{{{missing[0]}}}`, got {names}")
    arguments = [values[name] for name in compiled.names]
    return [SHELL, "-c", compiled.code, SHELL, *arguments], show(script, values, ())
