"""A pipeline in Python; see https://rvrun.github.io/rvrun/pipelines/.

rvrun plan pipeline.py                         show what would run, and why
rvrun run local pipeline.py                    run it; again: only what changed
rvrun run local pipeline.py -a greeting Hi     the same with another argument
"""

import pathlib

import rvrun


class Config(rvrun.PipelineConfig):
    """What the pipeline depends on: a change of a value repeats what uses it."""

    greeting: str
    names: tuple[str, ...] = ("Ada", "Grace", "Edsger", "Barbara")

    def build(self):
        return Hello(self)


class Hello(rvrun.Pipeline):
    """The commands, each a method. `greet` runs in two parts, in parallel."""

    commands = ("greet", "join")
    split_commands = ("greet",)
    splits = {"greet": 2}

    def greet(self, split_ind, num_splits):
        for name in rvrun.share(self.config.names, split_ind, num_splits):
            self.file(name).write_text(f"{self.config.greeting}, {name}!\n")

    def join(self):
        # Any program; if it fails, so does the command.
        files = [str(self.file(name)) for name in self.config.names]
        rvrun.shell(["sort", "-o", str(self.file("all")), *files])

    def file(self, name):
        folder = pathlib.Path(self.config.root_uri)
        folder.mkdir(parents=True, exist_ok=True)
        return folder / f"{name}.txt"


def get_config(runner, greeting="Hello", root_uri="out"):
    return Config(name="NAME", root_uri=root_uri, greeting=greeting)
