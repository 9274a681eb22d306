"""Checks of pipelines of programs: the programs must be on the PATH."""

from __future__ import annotations

import os
from collections.abc import Iterator

from rvrun.checks.case import Case
from rvrun.finding import Finding, error, ok, warning
from rvrun.patterns import is_inside
from rvrun.programs.engines import DOCKER, ENGINES, daemon_problem, first_installed
from rvrun.programs.pipeline import Programs
from rvrun.programs.process import find_program, how_to_find
from rvrun.programs.program import Program
from rvrun.programs.template import fill, placeholders
from rvrun.text import count


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
    """Check the program itself. What a script calls is only known when it runs."""
    run = program.run
    if isinstance(run, str) or not all(n in program.values for n in placeholders(run[0])):
        return
    name = fill(run[0], program.values)
    declaration = program.declaration
    if "cwd" in declaration or "PATH" in declaration.get("env", {}):
        # Both may depend on the item.
        return
    if find_program(name, os.environ.get("PATH")) is None:
        where = "does not exist, or cannot be executed" if "/" in name else "is not on the PATH"
        yield error("programs", f"{label} runs `{name}`, which {where}", how_to_find(name))
