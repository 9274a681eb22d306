"""Count the words of a few lines, in parallel. This pipeline needs no packages except rvrun.

rvrun run local examples/tiny.py --splits 4
"""

from __future__ import annotations

import json
import os
import pathlib
from collections import Counter
from typing import Any

import rvrun

LINES = (
    "the quick brown fox jumps over the lazy dog",
    "the dog sleeps on",
    "and the fox runs off into the wood",
    "where no dog has ever been",
    "quick and brown and gone",
    "the wood is quiet now",
)


class TinyConfig(rvrun.PipelineConfig):
    """Count words of at least `min_length` letters, and show the `top` most common ones."""

    min_length: int = 1
    top: int = 3

    def build(self) -> Tiny:
        return Tiny(self)


class Tiny(rvrun.Pipeline):
    """Cut lines into words, count the words in parallel, add up the counts, show the most common.

    Commands exchange data through files under `root_uri`. The files are named by line, not by
    split, so they are the same for any number of splits.
    """

    config: TinyConfig

    commands = ("cut", "count", "sum", "show")
    split_commands = ("cut", "count")
    needs = {"count": [rvrun.aligned("cut")]}
    config_keys = {"cut": [], "count": ["min_length"], "sum": [], "show": ["top"]}

    def count_items(self, command: str) -> int:
        return len(LINES)

    def cut(self, split_ind: int = 0, num_splits: int = 1) -> None:
        for number in rvrun.share(range(len(LINES)), split_ind, num_splits):
            self.save(f"words-{number}", LINES[number].split())

    def count(self, split_ind: int = 0, num_splits: int = 1) -> None:
        for number in rvrun.share(range(len(LINES)), split_ind, num_splits):
            words = self.load(f"words-{number}")
            self.save(f"counts-{number}", Counter(filter(self.counts, words)))

    def counts(self, word: str) -> bool:
        return len(word) >= self.config.min_length

    def sum(self) -> None:
        counters = (Counter(self.load(f"counts-{number}")) for number in range(len(LINES)))
        self.save("total", sum(counters, Counter()))

    def show(self) -> None:
        for word, count in Counter(self.load("total")).most_common(self.config.top):
            print(f"{count:3} {word}")

    def load(self, name: str) -> Any:
        return json.loads(pathlib.Path(self.config.root_uri, f"{name}.json").read_text())

    def save(self, name: str, value: object) -> None:
        path = pathlib.Path(self.config.root_uri, f"{name}.json")
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_suffix(".new")
        new.write_text(json.dumps(value))
        os.replace(new, path)


def get_config(runner: str, root_uri: str = "out/tiny", top: int = 3) -> TinyConfig:
    return TinyConfig(root_uri=root_uri, top=top)
