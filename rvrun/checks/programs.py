"""Checks of pipelines of programs: the programs must be on the PATH."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator, Sequence

from rvrun.checks.case import Case
from rvrun.finding import Finding, error, ok, warning
from rvrun.patterns import is_inside
from rvrun.programs.engines import DOCKER, ENGINES, daemon_problem, first_installed
from rvrun.programs.pipeline import Programs
from rvrun.programs.process import find_program, how_to_find
from rvrun.programs.program import Program
from rvrun.programs.template import fill, placeholders
from rvrun.text import count

#: The first word of a script, if it has no quotes, placeholders and the like.
_FIRST_WORD = re.compile(r"\s*([\w./+-]+)(?:\s|$)")


def check_programs(case: Case) -> Iterator[Finding]:
    """Check that targets on this machine find their programs."""
    if case.detached is not None:
        # Programs of jobs are in their images.
        return
    num_fine = 0
    for loaded in case.loaded:
        pipeline = loaded.pipeline
        if not isinstance(pipeline, Programs):
            continue
        for command in pipeline.commands:
            problems = list(_check_command(loaded.name, command, pipeline))
            yield from problems
            num_fine += not problems
    if num_fine:
        yield ok("programs", f"{count(num_fine, 'command')} can start")


def _check_command(name: str, command: str, pipeline: Programs) -> Iterator[Finding]:
    program = pipeline.program(command, 0, 1)
    label = f"{name}/{command}"
    container = program.declaration.get("container")
    yield from _check_directory(label, program)
    yield from _check_path(label, program) if container is None else check_engine(label, container)


def check_engine(label: str, container: object) -> Iterator[Finding]:
    """Check that an engine is installed and answers, for the `container` of a command."""
    engines: tuple[str, ...] = ENGINES
    if isinstance(container, dict) and "engine" in container:
        engines = (container["engine"],)
    installed = first_installed(engines)
    if installed is None:
        names = " or ".join(f"`{engine}`" for engine in engines)
        text = f"{label} needs a container engine, and {names} is not on the PATH"
        yield error("programs", text, "install one, or remove `container`")
    elif installed == DOCKER and (problem := daemon_problem()):
        fix = "start its daemon, or choose another `engine` in `container`"
        yield error("programs", f"{label} needs docker, which does not answer: {problem}", fix)


def _check_directory(label: str, program: Program) -> Iterator[Finding]:
    """Check that the directory of a program exists; those below the root are still to be made."""
    text = program.declaration.get("cwd", "")
    # That of a container may be in its image.
    is_of_image = "container" in program.declaration and os.path.isabs(text)
    if is_of_image or not all(name in program.values for name in placeholders(text)):
        return
    directory, root = (os.path.abspath(fill(t, program.values)) for t in (text, "{root}"))
    if text and not is_inside(root, directory) and not os.path.isdir(directory):
        yield warning(
            "programs",
            f"{label} runs in the directory {fill(text, program.values)}, which does not exist",
            "create it, or correct `cwd`",
        )


def _check_path(label: str, program: Program) -> Iterator[Finding]:
    """Check the program itself, or the first one of a script: the rest is known when it runs."""
    is_script, values = isinstance(program.run, str), program.values
    own_path = program.declaration.get("env", {}).get("PATH", "")
    texts = (_first_word(program.run), own_path, program.declaration.get("cwd", ""))
    if not texts[0] or not all(n in values for text in texts for n in placeholders(text)):
        # They depend on the item.
        return
    name, path, directory = (fill(text, values) for text in texts)
    if "/" in name and _may_be_made(name, directory, values["root"]):
        return
    path = path or os.environ.get("PATH", os.defpath)
    directory = directory if os.path.isdir(directory) else ""
    is_found = _is_known_to_shell if is_script else find_program
    if is_found(name, path, directory or None):
        return
    where = "does not exist, or cannot be executed" if "/" in name else "is not on the PATH"
    if is_script:
        # The script may have an alternative.
        yield warning("programs", f"{label} begins with `{name}`, which {where}", how_to_find(name))
    else:
        yield error("programs", f"{label} runs `{name}`, which {where}", how_to_find(name))


def _first_word(run: str | Sequence[str]) -> str:
    """Return the program of a list, or the first one of a script; empty if that is not plain."""
    if not isinstance(run, str):
        return run[0]
    first = _FIRST_WORD.match(run)
    return first[1] if first else ""


def _may_be_made(name: str, directory: str, root: str) -> bool:
    """Whether a command may still make a program, or the directory that its path is relative to."""
    path = os.path.abspath(os.path.join(directory, name))
    is_lost = not os.path.isabs(name) and not os.path.isdir(directory or os.curdir)
    return is_lost or is_inside(os.path.abspath(root), path)


def _is_known_to_shell(name: str, path: str, directory: str | None) -> bool:
    """Whether a word is a program, or a word that sh knows itself."""
    done = subprocess.run(
        ["/bin/sh", "-c", 'command -v "$1"', "sh", name],
        env={**os.environ, "PATH": path},
        cwd=directory,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=False,
    )
    return done.returncode == 0
