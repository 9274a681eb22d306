"""Build and open Raster Vision's pipelines as its own worker does, and call that worker."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from rastervision.pipeline import config as config_module
from rastervision.pipeline import registry_ as registry
from rastervision.pipeline import rv_config_ as rv_config

from rvrun.adapters.raster_vision.chips import chips_named
from rvrun.adapters.raster_vision.config import check_plugin, read, save, type_hints
from rvrun.pipelines.imports import import_saved_source, user_code


@contextlib.contextmanager
def set_up(verbosity: int = 0) -> Iterator[None]:
    """Set Raster Vision up as its command line does, so that loose files can be imported."""
    _set_up(verbosity, {})
    with _loose_classes_allowed():
        yield


def _set_up(verbosity: int, overrides: Mapping[str, str]) -> None:
    """Set up with the profile that RV_PROFILE names; temporary files are in TMPDIR.

    - `overrides`: settings of a saved config.
    """
    rv_config.set_verbosity(verbosity=verbosity + 1)
    rv_config.set_tmp_dir_root()
    rv_config.set_everett_config(config_overrides=dict(overrides))


@contextlib.contextmanager
def _loose_classes_allowed() -> Iterator[None]:
    """Allow config classes of loose files to be registered.

    Raster Vision takes the plugin of a class from its module's name, `rastervision.PLUGIN`, and
    raises an IndexError if that has no dot. It imports loose files as `rastervision.pipeline`,
    so that is their plugin. There is no other way: users' decorators do not name a plugin, and
    the module must keep its own name, under which its classes are pickled.
    """
    get_plugin = config_module.get_plugin

    def get_plugin_or_default(config_class: type) -> str:
        is_loose = "." not in config_class.__module__
        return "rastervision.pipeline" if is_loose else str(get_plugin(config_class))

    config_module.get_plugin = get_plugin_or_default
    try:
        yield
    finally:
        config_module.get_plugin = get_plugin


@contextlib.contextmanager
def built(document: Mapping[str, Any]) -> Iterator[Any]:
    """Open the pipeline of a saved config. Writes nothing but its temporary folder."""
    with _built(_read_config(document), document["name"]) as pipeline:
        yield pipeline


def config_classes(document: Mapping[str, Any]) -> Sequence[type]:
    """Import the code of a saved config, and return the classes of all configs in it."""
    _set_up(0, document.get("rv_config") or {})
    _import_source(document)
    classes = map(registry.configs.get, dict.fromkeys(type_hints(document["config"])))
    # Old names are converted when the config is read; any other unknown name is an error then.
    return [cls for cls in classes if cls is not None]


def _read_config(document: Mapping[str, Any]) -> Any:
    """The config of a document, whose classes may be in a loose file."""
    _import_source(document)
    return read(document["config"])


def _import_source(document: Mapping[str, Any]) -> None:
    if document.get("source"):
        with _loose_classes_allowed():
            import_saved_source(document["source"], "the saved config")


@contextlib.contextmanager
def _built(config: Any, name: str) -> Iterator[Any]:
    with rv_config.get_tmp_dir() as tmp_dir:
        with user_code(f"building pipeline `{name}`"):
            pipeline = config.build(tmp_dir)
        yield pipeline


@contextlib.contextmanager
def opened(
    document: Mapping[str, Any],
    command: str,
    split_ind: int | None,
    num_splits: int | None,
    *,
    verbosity: int,
    warn: Callable[[str], None],
) -> Iterator[Any]:
    """Open the pipeline of a saved config, set up as by Raster Vision's command line.

    The config is saved at its URI first, unless it was read from there. Raises `BadConfig` if no
    plugin for that URI is installed.
    """
    _set_up(verbosity, document.get("rv_config") or {})
    config = _read_config(document)
    check_plugin(str(config.get_config_uri()))
    # Only a config that Raster Vision saved itself has settings, and it is at its URI already.
    if "rv_config" not in document:
        save(document, config)
    with (
        _built(config, document["name"]) as pipeline,
        chips_named(pipeline, document, command, split_ind or 0, num_splits or 1, warn=warn),
    ):
        yield pipeline


def argv(
    uri: str,
    command: str,
    *,
    split_ind: str | None = None,
    num_splits: str | None = None,
    runner: str | None = None,
    verbosity: int = 0,
) -> list[str]:
    """Return the command line of Raster Vision's own worker, for machines without rvrun.

    - `uri`: where the config is saved.
    - `runner`: of Raster Vision's; it determines the split if there is no `split_ind`.
    """
    options = ["-v"] * verbosity
    split = ["--split-ind", split_ind] if split_ind is not None else []
    split += ["--num-splits", num_splits] if num_splits is not None else []
    split += ["--runner", runner] if runner else []
    cli = ["python", "-m", "rastervision.pipeline.cli"]
    return [*cli, *options, "run_command", uri, command, *split]
