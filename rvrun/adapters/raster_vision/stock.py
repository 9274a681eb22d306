"""What the commands of Raster Vision's own pipelines depend on.

Raster Vision's pipelines do not declare `config_keys`, so that a change of any setting would run
every command again. This module declares them for its stock pipelines: chip classification,
semantic segmentation and object detection.

`KEYS` is what the commands of 0.31 were seen to read, rounded up: the record is
`tests/data/raster_vision_reads.json`, made by `examples/raster_vision/record_reads.py`, and a test
compares both. Code that was not recorded could read anything, so a subclass, another version, or
one config class of a plugin or of the user's own file makes every command depend on everything.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import attrs
from rastervision.pipeline import registry_ as registry

from rvrun.adapters.raster_vision.scenes import FIELD, LISTS, item_list
from rvrun.model import Command, DeclaredPipeline, ItemCall, StageItems

#: The versions whose commands were recorded.
VERSION = "0.31."
#: Packages of config classes that a stock pipeline may consist of.
PACKAGES = ("core", "pipeline", "pytorch_backend", "pytorch_learner")
PIPELINES = ("chip_classification", "object_detection", "semantic_segmentation")
#: What every command reads, if only to build the pipeline: the format of the config.
_ALL = ("plugin_versions",)
#: The top-level fields, or parts of them, on which a command depends. `bundle` is not listed: it
#: contains the whole config.
KEYS: Mapping[str, tuple[str, ...]] = {
    "analyze": (*_ALL, "dataset", "analyzers", "analyze_uri"),
    "chip": (
        *_ALL,
        "dataset",
        "chip_options",
        "chip_uri",
        "backend.type_hint",
        # Those of the data loader that reads the scenes; random windows depend on it.
        "backend.data.num_workers",
        "backend.solver.batch_sz",
        "train_uri",
    ),
    "train": (*_ALL, "dataset", "backend", "chip_uri", "train_uri", "source_bundle_uri"),
    "predict": (*_ALL, "dataset", "backend", "predict_options", "train_uri", "predict_uri"),
    "eval": (*_ALL, "dataset", "evaluators", "predict_uri", "eval_uri"),
}


def config_keys(
    pipeline: Any, values: Mapping[str, Any], hints: Iterable[str]
) -> Mapping[str, tuple[str, ...]]:
    """Return what each command of a pipeline depends on; none if that is unknown.

    - `values`: the saved config. `hints`: the type hints of all configs in it.
    """
    folder = "rastervision.core.rv_pipeline"
    name = str(values["type_hint"])
    is_stock = (
        name in PIPELINES
        and type(pipeline).__module__ == f"{folder}.{name}"
        and type(pipeline.config).__module__ == f"{folder}.{name}_config"
    )
    modules = {registry.get_config(hint).__module__ for hint in hints} if is_stock else set()
    return KEYS if is_stock and all(map(_is_recorded, modules)) else {}


def with_scenes(declared: DeclaredPipeline, values: Mapping[str, Any]) -> DeclaredPipeline:
    """Return a stock pipeline whose commands know their scenes if there is a split for each."""
    commands = (_with_scenes(command, values) for command in declared.commands)
    return attrs.evolve(declared, commands=tuple(commands))


def _with_scenes(command: Command, values: Mapping[str, Any]) -> Command:
    if command.name not in LISTS or not command.is_split or command.config_keys is None:
        return command
    scenes = item_list(values, command.name)
    # All of the dataset that Raster Vision was seen to read, other than the scenes themselves.
    keys = [key for key in command.config_keys if key != "dataset"]
    items = StageItems(field=FIELD, count=len(scenes), digest=scenes.digest, call=ItemCall.SHARE)
    command = attrs.evolve(command, num_items=len(scenes))
    alone = attrs.evolve(
        command, items=items, item_list=scenes, config_keys=("dataset.class_config", *keys)
    )
    return attrs.evolve(command, if_each=alone)


def _is_recorded(module: str) -> bool:
    """Whether the module is of a package whose commands were recorded in this version."""
    system, _, rest = module.partition(".")
    package = rest.partition(".")[0]
    if system != "rastervision" or package not in PACKAGES:
        return False
    try:
        return version(f"rastervision-{package.replace('_', '-')}").startswith(VERSION)
    except PackageNotFoundError:
        return False
