"""The pipeline that a `pipeline.toml` describes.

Its config is plain JSON, so that a worker needs neither attrs nor the file itself. A part of it per
purpose, so that a command depends on exactly what it mentions:

- `config`: the values of `[config]`, by name
- `commands`: what each command runs, by its name
- `items`: the items of each command that has some
- `options`: how each command is planned and repeated: `needs`, `splits`, `gpu`, `timeout`, ...

Light on purpose: the worker imports it.
"""

from __future__ import annotations

import os

from rvrun.errors import FAILED, RvrunError
from rvrun.pipelines.base import Aligned, Pipeline, PipelineConfig, share
from rvrun.programs.program import Program, mentions
from rvrun.programs.template import (
    CONFIG,
    ITEM,
    config_values,
    escape,
    fill,
    fill_some,
    item_values,
    placeholders,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from rvrun.model import Resources
    from rvrun.programs.process import Invocation


#: Options of commands that rvrun's worker has to look after, in jobs as well.
_OF_WORKER = ("splits", "timeout", "retries", "inputs", "outputs")
#: What services replace in command lines, or rvrun in requests.
_SPECIAL_IN_JOBS = ("${", "$(", "Ref::", "\n")


class NoFolder(RvrunError):
    """A folder for what a program writes that cannot be made."""

    path: str
    problem: str
    template = "folder {path} cannot be created: {problem}; change `root` or `outputs`"
    fix = "change `root` or `outputs`"
    exit_code = FAILED


class ProgramsConfig(PipelineConfig):
    """The config of a pipeline of programs; see the module."""

    config: dict  # type: ignore[type-arg]
    commands: dict  # type: ignore[type-arg]
    items: dict  # type: ignore[type-arg]
    options: dict  # type: ignore[type-arg]

    def build(self) -> Programs:
        return Programs(self)


class Programs(Pipeline):
    """A pipeline whose commands run programs. A command is an attribute, as a method would be."""

    config: ProgramsConfig
    handles_uris = True
    has_code = False
    #: Whether this target is in a container already, as jobs are.
    in_container = False
    #: What identifies this target on this machine; empty if it has no run directory.
    place = ""

    @property
    def commands(self) -> Sequence[str]:  # type: ignore[override]
        return tuple(self.config.commands)

    @property
    def split_commands(self) -> Sequence[str]:  # type: ignore[override]
        return tuple(self.splits)

    @property
    def gpu_commands(self) -> Sequence[str]:  # type: ignore[override]
        return tuple(name for name, options in self._options() if options.get("gpu"))

    @property
    def needs(self) -> Mapping[str, Sequence[str]]:  # type: ignore[override]
        return {
            name: [self._need(name, need) for need in options["needs"]]
            for name, options in self._options()
        }

    def _need(self, command: str, need: str | Mapping[str, str]) -> str:
        if isinstance(need, str):
            return need
        other = need["aligned"]
        are_split = self._is_split(command) and self._is_split(other)
        # Nothing of a command as a whole corresponds to an item of another.
        is_aligned = are_split and self._has_items(command) == self._has_items(other)
        return Aligned(other) if is_aligned else other

    @property
    def splits(self) -> Mapping[str, int | str]:  # type: ignore[override]
        """The number of splits of each command that can be split."""
        return {name: o["splits"] for name, o in self._options() if self._is_split(name)}

    def _is_split(self, command: str) -> bool:
        splits = self.config.options[command].get("splits")
        return splits is not None and not (splits == 1 and self._writes_one(command))

    @property
    def config_keys(self) -> Mapping[str, Sequence[str]]:  # type: ignore[override]
        """A command depends on its own declaration, and on exactly the values that it mentions."""
        return {name: self._keys(name) for name in self.config.commands}

    def _keys(self, command: str) -> list[str]:
        names = dict.fromkeys(mentions(self.config.commands[command]))
        keys = [name for name in names if name.startswith(CONFIG) or name == "name"]
        if command in self.config.items and not self._has_items(command):
            keys.append(f"items.{command}")
        return [f"commands.{command}", *keys]

    @property
    def items(self) -> Mapping[str, str]:  # type: ignore[override]
        """Where the items of each command are in the config, if each can be done by itself."""
        return {name: f"items.{name}" for name in self.config.items if self._has_items(name)}

    def _has_items(self, command: str) -> bool:
        """Whether a command has items each of which can be done by itself.

        None can if what it writes depends on all of them: one file, or probably a file per split
        if it gets the number of its split.
        """
        is_by_split = self._has_split(command) and not self._has_output_of_item(command)
        has_items = command in self.config.items
        return has_items and not is_by_split and not self._writes_one(command)

    def _writes_one(self, command: str) -> bool:
        """Whether a program gets all items of its split together, and writes them to one file."""
        names = mentions(self.config.commands[command])
        if command not in self.config.items or _has_item(names) or self._has_split(command):
            return False
        is_certain = any(map(_is_certain, declared_paths(self, command, "outputs")))
        return is_certain and not self._has_output_of_item(command)

    def _has_split(self, command: str) -> bool:
        return not {"split", "splits"}.isdisjoint(mentions(self.config.commands[command]))

    def _has_output_of_item(self, command: str) -> bool:
        outputs = self.config.options[command].get("outputs", ())
        return any(_has_item(placeholders(text)) for text in outputs)

    @property
    def inputs(self) -> Mapping[str, Sequence[str]]:  # type: ignore[override]
        """The files that commands read; the placeholders of items are left.

        A command of which no item can be done by itself reads the files of all items.
        """
        together = {name for name in self.config.items if not self._has_items(name)}
        return {
            name: self._of_all_items(name, texts) if name in together else texts
            for name, texts in self._all_files("inputs").items()
        }

    def _of_all_items(self, command: str, texts: Sequence[str]) -> list[str]:
        from rvrun.patterns import is_per_item, item_path

        items = self.config.items[command]
        paths: list[str] = []
        for text in texts:
            is_own = is_per_item(text)
            paths += [escape(item_path(text, item)) for item in items] if is_own else [text]
        return paths

    @property
    def outputs(self) -> Mapping[str, Sequence[str]]:  # type: ignore[override]
        """The files that commands write; the placeholders of items and splits are left."""
        return self._all_files("outputs")

    def _all_files(self, key: str) -> dict[str, list[str]]:
        return {
            name: declared_paths(self, name, key)
            for name, options in self._options()
            if key in options
        }

    @property
    def resources(self) -> Mapping[str, Resources]:  # type: ignore[override]
        from rvrun.model import Resources

        return {
            name: Resources(**options.get("resources", {}), image=self._image(name))
            for name, options in self._options()
        }

    def _image(self, command: str) -> str | None:
        container: str | dict[str, str] | None = self.config.commands[command].get("container")
        return container["image"] if isinstance(container, dict) else container

    def job_argv(self, command: str) -> list[str] | None:
        """Return the command line of a command as a job that needs nothing of rvrun; None if none.

        That is a list of arguments that are the same in every job, with nothing to do around it.
        """
        options = self.config.options[command]
        program = self.program(command)
        declaration = program.declaration
        needs_worker = any(options.get(key) for key in _OF_WORKER) or "cwd" in declaration
        if needs_worker or isinstance(declaration["run"], str):
            return None
        argv = program.argv(program.values)
        if any(not word or sign in word for word in argv for sign in _SPECIAL_IN_JOBS):
            return None
        variables = [
            f"{name}={fill(text, program.values)}"
            for name, text in declaration.get("env", {}).items()
        ]
        return ["env", *variables, *argv] if variables else argv

    def _options(self) -> list[tuple[str, dict[str, Any]]]:
        return list(self.config.options.items())

    def count_items(self, command: str) -> int | None:
        """Return the number of items of a command."""
        items = self.config.items.get(command)
        return None if items is None else len(items)

    def __getattr__(self, name: str) -> Callable[..., None]:
        """Return a command as the method that runs it."""
        if name.startswith("_") or name == "config" or name not in self.config.commands:
            raise AttributeError(f"`{type(self).__name__}` has no command `{name}`")

        return self._methods(name)[self._call(name)]

    def _call(self, command: str) -> str:
        """Return what the method of a command gets: `item`, `items`, its `share`, or nothing."""
        if not self._is_split(command):
            return "nothing"
        # With the number of its split, a program is called for exactly that split.
        if not self._has_items(command) or self._has_split(command):
            return "share"
        return "item" if _has_item(mentions(self.config.commands[command])) else "items"

    def _methods(self, command: str) -> dict[str, Callable[..., None]]:
        def run() -> None:
            self._run_all(self.program(command), self.config.items.get(command))

        def run_item(item: Any) -> None:
            self._run_item(self.program(command), item)

        def run_items(items: Sequence[Any]) -> None:
            self._run_items(self.program(command), items)

        def run_share(split_ind: int, num_splits: int) -> None:
            self._run_share(command, split_ind, num_splits)

        return {"nothing": run, "item": run_item, "items": run_items, "share": run_share}

    def program(
        self, command: str, split_ind: int | None = None, num_splits: int | None = None
    ) -> Program:
        """Return the program of a command, with all values but those of items."""
        config = self.config
        values = {"root": config.root_uri, "name": config.name, **config_values(config.config)}
        if split_ind is not None:
            values |= {"split": str(split_ind), "splits": str(num_splits)}
        declaration, options = config.commands[command], config.options[command]
        return Program(
            declaration, options, values, in_container=self.in_container, target=self.place
        )

    def _run_share(self, command: str, split_ind: int, num_splits: int) -> None:
        """Run a program with the number of its split, for its share of the items if it has some."""
        items = self.config.items.get(command)
        own = None if items is None else share(items, split_ind, num_splits)
        self._run_all(self.program(command, split_ind, num_splits), own)

    def _run_all(self, program: Program, items: Sequence[Any] | None) -> None:
        """Run a program for all `items`, or once if it has none."""
        if items is None:
            self.make_folders(program, program.values)
            program.once().run()
        elif _has_item(program.names):
            for item in items:
                self._run_item(program, item)
        elif items:
            self._run_items(program, items)

    def _run_item(self, program: Program, item: Any) -> None:
        self.make_folders(program, {**program.values, **item_values(item)})
        program.for_item(item).run()

    def _run_items(self, program: Program, items: Sequence[Any]) -> None:
        for item in items:
            self.make_folders(program, {**program.values, **item_values(item)})
        with program.for_items(items) as invocation:
            invocation.run()

    def last_invocation(
        self, command: str, split_ind: int | None, num_splits: int | None
    ) -> Invocation | None:
        """Return the only call of a target if nothing must happen after it, else None."""
        program = self.program(command, split_ind, num_splits)
        may_repeat = program.options.get("retries") or program.options.get("timeout")
        # A container may have to be removed after its program.
        if may_repeat or program.has_container or command in self.config.items:
            return None
        self.make_folders(program, program.values)
        return program.once()

    def make_folders(self, program: Program, values: Mapping[str, str]) -> None:
        """Make the folder of the root, and those of a program's outputs, on this machine.

        - `values`: those of all placeholders of the call that follows.
        """
        folders = [self.config.root_uri]
        for text in program.options.get("outputs", ()):
            folder = os.path.dirname(text)
            if all(name in values for name in placeholders(folder)):
                folders.append(fill(folder, values))
        for folder in folders:
            if folder and "://" not in folder:
                _make_folder(folder)


def _make_folder(path: str) -> None:
    """Make a folder and those above it. Raises `NoFolder`."""
    try:
        os.makedirs(path, exist_ok=True)
    except OSError as error:
        raise NoFolder(path, error.strerror or str(error)) from None


def _has_item(names: Sequence[str]) -> bool:
    """Whether placeholders are of a single item."""
    return any(name.partition(".")[0] == ITEM for name in names)


def _is_certain(path: str) -> bool:
    """Whether an output is one file, rather than a folder or all that match a glob."""
    return not path.endswith("/") and not any(sign in path for sign in "*?[")


def declared_paths(pipeline: Programs, command: str, key: str) -> list[str]:
    """Return the `inputs` or `outputs` of a command; the placeholders of items and splits are left.

    - `key`: which of the two.
    """
    templates = {name: escape(value) for name, value in pipeline.program(command).values.items()}
    templates |= {"split": "{split_ind}", "splits": "{num_splits}"}
    texts = pipeline.config.options[command].get(key, ())
    return [fill_some(text, templates) for text in texts]
