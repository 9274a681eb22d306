"""A command of a `pipeline.toml`: its declaration, filled in to calls of its program.

Light on purpose: the worker calls it.
"""

from __future__ import annotations

import contextlib
import os

from rvrun.programs.process import Invocation, join
from rvrun.programs.script import compile_script
from rvrun.programs.template import (
    ITEMS,
    ITEMS_FILE,
    ITEMS_FILE0,
    fill,
    item_values,
    look_up,
    placeholders,
    to_text,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Any

SHELL = "sh"
#: The placeholder of the folder where a pipeline writes.
ROOT = "root"


class Program:
    """A command's declaration, as saved, with the values of all placeholders but the items'.

    - `options`: `timeout` and `retries`, among others.
    - `in_container`: whether the target is in a container already, as jobs are.
    - `target`: what identifies the target on this machine, for the name of its container.
    """

    def __init__(
        self,
        declaration: Mapping[str, Any],
        options: Mapping[str, Any],
        values: Mapping[str, str],
        *,
        in_container: bool = False,
        target: str = "",
    ) -> None:
        self.declaration = declaration
        self.options = options
        self.values = values
        self.in_container = in_container
        self.target = target
        self.run = declaration["run"]

    @property
    def names(self) -> list[str]:
        """The names of all placeholders."""
        return mentions(self.declaration)

    @property
    def items_file(self) -> str | None:
        """The placeholder for a file with the items, if there is one."""
        return next((name for name in self.names if name in (ITEMS_FILE, ITEMS_FILE0)), None)

    @property
    def has_container(self) -> bool:
        """Whether the program runs in a container that this process has to start."""
        return "container" in self.declaration and not self.in_container

    def for_item(self, item: Any) -> Invocation:
        """Return the call for one item."""
        return self._invocation({**self.values, **item_values(item)})

    @contextlib.contextmanager
    def for_items(self, items: Sequence[Any]) -> Iterator[Invocation]:
        """Open the call for all items; a file that lists them exists until the end."""
        words = [] if any(isinstance(item, dict) for item in items) else [*map(to_text, items)]
        name = self.items_file
        if name is None:
            yield self._invocation(self.values, words)
            return
        with _listed(items, "\0" if name == ITEMS_FILE0 else "\n") as path:
            yield self._invocation({**self.values, name: path}, words, files=(path,))

    def once(self) -> Invocation:
        """Return the only call of a command without items."""
        return self._invocation(self.values)

    def argv(self, values: Mapping[str, str], items: Sequence[str] = ()) -> list[str]:
        """Return the command line, without its container."""
        if isinstance(self.run, str):
            script = compile_script(self.run)
            arguments = [look_up(values, name) for name in script.names]
            return [
                SHELL,
                "-c",
                script.code,
                SHELL,
                *arguments,
                *(items if script.has_items else ()),
            ]
        argv: list[str] = []
        for word in self.run:
            argv += items if word == f"{{{ITEMS}}}" else [fill(word, values)]
        return argv

    def _invocation(
        self, values: Mapping[str, str], items: Sequence[str] = (), files: Sequence[str] = ()
    ) -> Invocation:
        declaration = self.declaration
        argv = self.argv(values, items)
        shown = show(self.run, values, items) if isinstance(self.run, str) else ""
        directory = declaration.get("cwd")
        directory = None if directory is None else fill(directory, values)
        variables = {name: fill(text, values) for name, text in declaration.get("env", {}).items()}
        limits = {
            "timeout": self.options.get("timeout"),
            "retries": self.options.get("retries", 0),
            "shown": shown,
        }
        if self.has_container:
            from rvrun.programs.container import Container

            container = Container(
                declaration["container"],
                target=self.target,
                folders=[values[ROOT]] if "://" not in values[ROOT] else [],
                files=files,
                gpu=bool(self.options.get("gpu")),
            )
            return container.wrap(argv, variables, directory, **limits)
        return Invocation(
            argv,
            environment={**os.environ, **variables} if variables else None,
            directory=directory,
            **limits,
        )


def mentions(declaration: Mapping[str, Any]) -> list[str]:
    """Return the names of all placeholders in a command's declaration, in their order."""
    return [name for text in _strings(declaration) for name in placeholders(text)]


def _strings(declaration: Mapping[str, Any]) -> Iterator[str]:
    run = declaration["run"]
    yield from [run] if isinstance(run, str) else run
    yield from declaration.get("env", {}).values()
    if "cwd" in declaration:
        yield declaration["cwd"]


def show(script: str, values: Mapping[str, str], items: Sequence[str]) -> str:
    """Return a script with its values, as a person would type it; of several lines the first."""
    shown = {name: join([value]) for name, value in values.items()}
    first, _, rest = script.strip("\n").partition("\n")
    line = fill(first, {**shown, ITEMS: join(items)})
    return join([SHELL, "-c", f"{line} …" if rest else line])


@contextlib.contextmanager
def _listed(items: Sequence[Any], end: str) -> Iterator[str]:
    """Write items to a temporary file, each with an end; tables as JSON."""
    import json

    lines = [
        json.dumps(item, ensure_ascii=False) if isinstance(item, dict) else to_text(item)
        for item in items
    ]
    folder = os.environ.get("TMPDIR") or "/tmp"  # noqa: S108 - created exclusively
    path = os.path.join(os.path.abspath(folder), f"rvrun-items-{os.urandom(8).hex()}.txt")
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with open(descriptor, "wb") as file:
            file.write("".join(f"{line}{end}" for line in lines).encode())
        yield path
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
