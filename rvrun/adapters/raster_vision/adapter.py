"""The adapter of Raster Vision: what `adapters.protocol.Adapter` requires, made of its parts.

load     a config is updated, validated and rebuilt as Raster Vision does before it saves one
run      a target first makes sure that the config is saved at its own URI, where Raster Vision
         looks for it, then builds the pipeline as Raster Vision's worker does
argv     how Raster Vision's worker is called on machines without rvrun

A saved config contains Raster Vision's own JSON, but nothing that depends on this machine:
settings (`rv_config`) are added by the machine that runs it, when it saves the config to its URI.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rvrun.adapters import registry as adapters
from rvrun.adapters.raster_vision.chips import leftovers, repeated
from rvrun.adapters.raster_vision.config import (
    check_uris,
    config_uri,
    distinct_names,
    make_document,
    read,
    saved,
    type_hints,
    wrap,
)
from rvrun.adapters.raster_vision.scenes import as_config
from rvrun.adapters.raster_vision.stock import config_keys, with_scenes
from rvrun.adapters.raster_vision.worker import argv, built, config_classes, opened, set_up
from rvrun.aws import storage

if TYPE_CHECKING:
    from rvrun.pipelines.declare import LoadedPipeline

__all__ = [
    "argv",
    "built",
    "config_classes",
    "config_uri",
    "distinguish",
    "items",
    "leftovers",
    "load",
    "load_saved",
    "opened",
    "repeated",
    "saved",
    "set_up",
    "wrap",
]


def load(config: Any, source: str | None) -> LoadedPipeline:
    """Load the pipeline of a config as a user's `get_config` returned it."""
    return _load(make_document(config, source))


def load_saved(document: Mapping[str, Any]) -> LoadedPipeline:
    """Load the pipeline of a saved config; Raster Vision updates those that it saved itself."""
    if adapters.is_own(document):
        return _load(make_document(read(document), None, document))
    return _load(document)


def _load(document: Mapping[str, Any]) -> LoadedPipeline:
    """The pipeline as targets will see it: rebuilt from what is saved."""
    # Not at the top: they import attrs and cattrs, which targets do not need.
    from rvrun.pipelines.declare import LoadedPipeline, declare

    values = document["config"]
    with built(document) as pipeline:
        keys = config_keys(pipeline, values, type_hints(values))
        declared = declare(pipeline, document["name"], values, keys)
        declared = with_scenes(declared, values) if keys else declared
    return LoadedPipeline(
        config=pipeline.config,
        document=dict(document),
        pipeline=pipeline,
        declared=declared,
        code=storage.read(document["source"]) if document.get("source") else None,
    )


def items(document: Mapping[str, Any], command: str) -> Mapping[str, Any]:
    """Return the scenes of each split of a command, where the plan has them."""
    return as_config(document["config"], command)


def distinguish(pipelines: Sequence[LoadedPipeline]) -> list[LoadedPipeline]:
    """Return the pipelines, those of equal names renamed by what differs in their root URIs.

    Raises `BadConfig` if two are saved at the same URI: running in parallel, each would overwrite
    the other's config.
    """
    check_uris([(pipeline.name, pipeline.config) for pipeline in pipelines])
    names = distinct_names([(pipeline.name, pipeline.root_uri) for pipeline in pipelines])
    return [_rename(*pair) for pair in zip(pipelines, names, strict=True)]


def _rename(pipeline: LoadedPipeline, name: str) -> LoadedPipeline:
    import attrs

    if name == pipeline.name:
        return pipeline
    return attrs.evolve(
        pipeline,
        document={**pipeline.document, "name": name},
        declared=attrs.evolve(pipeline.declared, name=name),
    )
