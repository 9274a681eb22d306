"""Raster Vision's own pipelines, run as they are. The only door to rastervision.

load     a config is updated, validated and rebuilt as Raster Vision does before it saves one
run      a target first sees that the config is saved where Raster Vision looks for it (its own
         URI), then builds the pipeline as Raster Vision's worker does
argv     how Raster Vision's worker is called where there is no rvrun

A saved config here holds Raster Vision's own JSON, without what depends on the machine: settings
(`rv_config`) are added when it is saved to its URI, by the machine that runs it.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING, Any

from rastervision.pipeline import config as config_module
from rastervision.pipeline import registry_ as registry
from rastervision.pipeline import rv_config_ as rv_config
from rastervision.pipeline.config import Config, build_config
from rastervision.pipeline.file_system import FileSystem, LocalFileSystem, NotReadableError
from rastervision.pipeline.file_system.utils import file_to_str, str_to_file
from rastervision.pipeline.pipeline_config import PipelineConfig

from rvrun.adapters import registry as foreign
from rvrun.aws import storage
from rvrun.errors import Problem, RvrunError, UserCodeError, describe
from rvrun.pipelines import imports as resolve

if TYPE_CHECKING:
    from rvrun.pipelines.declare import LoadedPipeline

#: The module whose `PyTorchLearnerSampleWriter` writes what `chip` makes.
WRITERS = "rastervision.pytorch_backend.pytorch_learner_backend"
#: What to install for URIs of a scheme.
PLUGINS = {"s3": "rastervision-aws-s3"}
#: Keys of a saved config that are none of the user's.
_METADATA = ("rv_config", "plugin_versions")
#: The files in a folder of chips that rvrun had written: command, split, number of splits.
_CHIPS = re.compile(r"([A-Za-z_]\w*)-(\d+)-of-(\d+)-.*\.zip")


class BadConfig(RvrunError):
    """A config of Raster Vision's that cannot be saved or read again."""

    def __init__(self, place: str, problem: str) -> None:
        self.place = place
        self.problem = problem

    def __str__(self) -> str:
        return f"{self.place}: {self.problem}"


# Loading


def load(config: Any, source: str | None) -> LoadedPipeline:
    """The pipeline of a config as a user's `get_config` returned it."""
    place = f"Raster Vision config {type(config).__name__}"
    _check(config, place)
    with _users(f"updating {place}"):
        config.update()
    with _users(f"validating {place}"):
        config.recursive_validate_config()
    with _users(f"saving {place}"):
        values = json.loads(_to_json(config))
    values |= {"rv_config": None, "plugin_versions": _plugin_versions(values)}
    document = _document(values, source if source and _needs(values, source) else None)
    return _loaded(document)


def load_saved(document: Mapping[str, Any]) -> LoadedPipeline:
    """The pipeline of a saved config. One that Raster Vision saved is updated, as it does."""
    if foreign.is_own(document):
        return load(read(document), None)
    return _loaded(document)


def wrap(values: dict[str, Any]) -> dict[str, Any]:
    """What Raster Vision saved as rvrun saves it; with its settings, which count where it runs."""
    return {**_document(values, None), "rv_config": values.get("rv_config") or {}}


def distinguish(pipelines: Sequence[LoadedPipeline]) -> list[LoadedPipeline]:
    """Those of equal names with what differs in their root URIs, else a number, after the name.

    Raises `BadConfig` where two are saved at the same URI: run in parallel, they would take each
    other's config.
    """
    _check_uris(pipelines)
    names = [pipeline.name for pipeline in pipelines]
    found = list(pipelines)
    for name in dict.fromkeys(names):
        same = [index for index, other in enumerate(names) if other == name]
        if len(same) > 1:
            endings = _differences([pipelines[index].root_uri for index in same])
            for index, ending in zip(same, endings, strict=True):
                found[index] = _renamed(pipelines[index], f"{name}-{ending}")
    return found


def _check_uris(pipelines: Sequence[LoadedPipeline]) -> None:
    seen: dict[str, LoadedPipeline] = {}
    for pipeline in pipelines:
        uri = str(pipeline.config.get_config_uri())
        place = os.path.realpath(uri) if _is_local(uri) else uri
        if seen.setdefault(place, pipeline) is not pipeline:
            kind = f"two Raster Vision configs ({seen[place].name}, {pipeline.name})"
            raise BadConfig(kind, f"are both saved at {uri}; give each a `root_uri` of its own")


def _check(config: Any, place: str) -> None:
    if not isinstance(config, PipelineConfig):
        raise BadConfig(place, "is no PipelineConfig, so it has no pipeline to run")
    if registry.configs.get(config.type_hint) is not type(config):
        mend = f"decorate it with @register_config('{type(config).__name__.lower()}')"
        raise BadConfig(place, f"is not registered, so it cannot be saved; {mend}")
    if not config.root_uri:
        raise BadConfig(place, "has no `root_uri`, where it is to be saved; give one")


@contextlib.contextmanager
def _users(what: str) -> Iterator[None]:
    """What raises within is the user's code."""
    try:
        yield
    except RvrunError:
        raise
    except (Exception, SystemExit) as error:
        raise UserCodeError(f"{what} raised {describe(error)}") from error


def _document(values: dict[str, Any], source: str | None) -> dict[str, Any]:
    from rvrun.pipelines.serialize import FILE_KEY, FILE_VERSION

    return {
        FILE_KEY: FILE_VERSION,
        foreign.KEY: "rastervision",
        "source": source,
        "name": _name(values),
        "config": values,
    }


def _loaded(document: Mapping[str, Any]) -> LoadedPipeline:
    """As targets will see it: rebuilt from what is saved."""
    from rvrun.pipelines.declare import LoadedPipeline, declare

    with built(document) as pipeline:
        declared = declare(pipeline, document["name"], document["config"])
    return LoadedPipeline(
        config=pipeline.config,
        document=dict(document),
        pipeline=pipeline,
        declared=declared,
        code=storage.read(document["source"]) if document.get("source") else None,
    )


def _renamed(pipeline: LoadedPipeline, name: str) -> LoadedPipeline:
    import attrs

    return attrs.evolve(
        pipeline,
        document={**pipeline.document, "name": name},
        declared=attrs.evolve(pipeline.declared, name=name),
    )


def _name(values: Mapping[str, Any]) -> str:
    """The last part of a config's type hint: `semantic_segmentation`."""
    from rvrun.model import RESERVED

    name = _usable(str(values["type_hint"]).rpartition(".")[2]) or "pipeline"
    return f"{name}-pipeline" if name.casefold() in RESERVED else name


def _usable(text: str) -> str:
    """`text` with only what may stand in a pipeline's name."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("._-").removesuffix(".json")


def _differences(uris: Sequence[str]) -> list[str]:
    """What is left of URIs without the parts that all begin and end with; if of use, else numbers.

    `out/a/run`, `out/b/run` → `a`, `b`.
    """
    parts = [uri.rstrip("/").split("/") for uri in uris]
    shortest = min(map(len, parts))
    first = next((i for i in range(shortest) if len({each[i] for each in parts}) > 1), shortest)
    room = shortest - first
    last = next((i for i in range(room) if len({each[-1 - i] for each in parts}) > 1), room)
    endings = [_usable("-".join(each[first : len(each) - last])) for each in parts]
    if all(endings) and len({ending.casefold() for ending in endings}) == len(endings):
        return endings
    return [str(number) for number in range(1, len(uris) + 1)]


def _type_hints(values: Any) -> Iterator[str]:
    if isinstance(values, dict):
        if isinstance(values.get("type_hint"), str):
            yield values["type_hint"]
        for value in values.values():
            yield from _type_hints(value)
    elif isinstance(values, list):
        for value in values:
            yield from _type_hints(value)


def _to_json(config: Any) -> str:
    """A config's JSON as Raster Vision writes it, but for sets, which are in order.

    Python's order of a set of texts is another one in each process, so that nothing would ever be
    the same as before: neither a plan nor the file that says what a target was done with.
    """
    text = str(config.json())
    plain = config.dict()
    if not _has_sets(plain):
        return text
    values = _in_order(plain, json.loads(text))
    return json.dumps(values, ensure_ascii=False, separators=(",", ":"))


def _has_sets(plain: Any) -> bool:
    if isinstance(plain, Mapping):
        return any(map(_has_sets, plain.values()))
    if isinstance(plain, list | tuple):
        return any(map(_has_sets, plain))
    return isinstance(plain, AbstractSet)


def _in_order(plain: Any, values: Any) -> Any:
    """`values`, the JSON of `plain`, with those lists sorted that are sets in `plain`."""
    if isinstance(values, dict) and isinstance(plain, Mapping):
        parts = {str(key): part for key, part in plain.items()}
        return {key: _in_order(parts.get(key), value) for key, value in values.items()}
    if isinstance(values, list) and isinstance(plain, AbstractSet):
        return sorted(values, key=json.dumps)
    if isinstance(values, list) and isinstance(plain, list | tuple):
        return [_in_order(*pair) for pair in zip(plain, values, strict=True)]
    return values


def _plugin_versions(values: Any) -> dict[str, int]:
    """The versions of the plugins that the config is of: they tell how to upgrade it later.

    Raster Vision saves those of all plugins installed, which other machines need not have.
    """
    plugins = {
        registry.get_plugin(ancestor)
        for hint in _type_hints(values)
        for ancestor in registry.get_type_hint_lineage(hint)
    }
    known = registry.plugin_versions
    return {plugin: known[plugin] for plugin in sorted(plugins) if plugin in known}


def _needs(values: Any, source: str) -> bool:
    """Whether a class of the config is in the loose file `source`, and not in a plugin."""
    module = os.path.basename(source).removesuffix(".py")
    return any(registry.get_config(hint).__module__ == module for hint in _type_hints(values))


# Running


def read(values: Mapping[str, Any]) -> Any:
    """The config of saved values, upgraded where a plugin is newer than they are."""
    kept = {key: value for key, value in values.items() if key not in _METADATA}
    versions = values.get("plugin_versions") or {}
    is_new = all(registry.plugin_versions.get(each) == versions[each] for each in versions)
    with _users(f"reading a saved Raster Vision config of type `{values.get('type_hint')}`"):
        if is_new:
            return build_config(kept)
        return Config.from_dict({**kept, "plugin_versions": versions})


@contextlib.contextmanager
def built(document: Mapping[str, Any]) -> Iterator[Any]:
    """Within, the pipeline of a saved config and its temporary folder; nothing else is written."""
    _import_source(document)
    with _built(read(document["config"]), document["name"]) as pipeline:
        yield pipeline


@contextlib.contextmanager
def _built(config: Any, name: str) -> Iterator[Any]:
    with rv_config.get_tmp_dir() as tmp_dir:
        with _users(f"building pipeline `{name}`"):
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
) -> Iterator[Any]:
    """Within, the pipeline of a saved config, ready for `command`.

    Set up as by Raster Vision's command line; the config is saved at its URI first, unless that
    is where it comes from.
    """
    set_up(verbosity, document.get("rv_config"))
    _import_source(document)
    config = read(document["config"])
    _check_reached(str(config.get_config_uri()))
    if "rv_config" not in document:
        _write(*_saved(config))
    with (
        _built(config, document["name"]) as pipeline,
        _chips_named(pipeline, command, split_ind or 0, num_splits or 1),
    ):
        yield pipeline


def _check_reached(uri: str) -> None:
    """Raise `BadConfig` where Raster Vision would take a URI for a folder called `s3:` here."""
    scheme, separator, _ = uri.partition("://")
    if separator and scheme.isalnum() and _is_local(uri):
        example = f" (pip install {PLUGINS[scheme]})" if scheme in PLUGINS else ""
        problem = f"no plugin of Raster Vision's for {scheme}:// is installed here; install one"
        raise BadConfig(uri, problem + example)


def set_up(verbosity: int = 0, overrides: Mapping[str, str] | None = None) -> None:
    """What Raster Vision's command line sets first, with the profile that RV_PROFILE names.

    The folder of temporary files is that of TMPDIR; `overrides` are settings from a saved config.
    """
    rv_config.set_verbosity(verbosity=verbosity + 1)
    rv_config.set_tmp_dir_root()
    rv_config.set_everett_config(config_overrides=dict(overrides or {}))


def config_uri(document: Mapping[str, Any]) -> str:
    """Where Raster Vision looks for the config."""
    return str(read(document["config"]).get_config_uri())


def _import_source(document: Mapping[str, Any]) -> None:
    """Import the loose file whose classes the config needs, if there is one."""
    if document.get("source"):
        resolve.import_source(document["source"])


_plugin_of_class = config_module.get_plugin


def _plugin_of(config_cls: type) -> str:
    """The plugin of a config's class; of one in a loose file `rastervision.pipeline`.

    So it is under Raster Vision, which imports such a file under that name.
    """
    if "." not in config_cls.__module__:
        return "rastervision.pipeline"
    return str(_plugin_of_class(config_cls))


config_module.get_plugin = _plugin_of


def saved(document: Mapping[str, Any]) -> tuple[str, str]:
    """Where Raster Vision looks for the config, and the text that it saves there.

    With this machine's settings and the versions of all plugins.
    """
    return _saved(read(document["config"]))


def _saved(config: Any) -> tuple[str, str]:
    config.rv_config = rv_config.get_config_dict(registry.rv_config_schema)
    config.plugin_versions = registry.plugin_versions
    return str(config.get_config_uri()), _to_json(config)


def _write(uri: str, text: str) -> None:
    """Write what is new at once and whole: other targets may be reading it, or writing the same."""
    if _text_at(uri) == text:
        return
    if not _is_local(uri):
        str_to_file(text, uri)
        return
    new = f"{uri}.{os.getpid()}"
    str_to_file(text, new)
    os.replace(new, uri)


def _text_at(uri: str) -> str | None:
    """The text of a file; None where it is not there. Local ones without Raster Vision's progress
    bars, which take longer than all else here.
    """
    try:
        if not _is_local(uri):
            return str(file_to_str(uri))
        with open(uri, encoding="utf-8") as file:
            return file.read()
    except (NotReadableError, OSError, ValueError):
        return None


def _is_local(uri: str) -> bool:
    return FileSystem.get_file_system(uri, "w") is LocalFileSystem


# Chips


@contextlib.contextmanager
def _chips_named(pipeline: Any, command: str, split_ind: int, num_splits: int) -> Iterator[None]:
    """Within, what `chip` writes bears the name of its target, and only if all went well.

    Raster Vision adds a file `<uuid>.zip` to the folder of chips at each try, also of those chips
    that a failed try had made, and `train` reads all files there. So earlier ones of the same
    target are removed first, and those of another number of splits.
    """
    folder = getattr(pipeline.config, "chip_uri", None)
    writers = sys.modules.get(WRITERS)
    if command != "chip" or not folder or writers is None:
        yield
        return
    _remove_chips(folder, command, split_ind, num_splits)
    prefix = f"{command}-{split_ind}-of-{num_splits}-"
    with _writer_changed(writers.PyTorchLearnerSampleWriter, prefix):
        yield


@contextlib.contextmanager
def _writer_changed(writer: Any, prefix: str) -> Iterator[None]:
    """Within, `writer` puts `prefix` before its file's name, and writes none after an exception."""
    init, leave = writer.__init__, writer.__exit__

    def named(self: Any, output_uri: str, *args: Any, **kwargs: Any) -> None:
        folder, _, name = output_uri.rpartition("/")
        init(self, f"{folder}/{prefix}{name}", *args, **kwargs)

    def left(self: Any, kind: Any, value: Any, frames: Any) -> Any:
        if kind is None:
            return leave(self, kind, value, frames)
        self.tmp_dir_obj.cleanup()
        return None

    writer.__init__, writer.__exit__ = named, left
    try:
        yield
    finally:
        writer.__init__, writer.__exit__ = init, leave


class StaleChips(Problem):
    """Chips of earlier tries that cannot be removed."""


def _remove_chips(folder: str, command: str, split_ind: int, num_splits: int) -> None:
    """Remove chips that this target, or targets of another number of splits, wrote before."""
    stale, strange = [], []
    for path in _zips(folder):
        found = _CHIPS.fullmatch(path.rpartition("/")[2])
        if found is None or found[1] != command:
            strange.append(path)
        elif int(found[3]) != num_splits or int(found[2]) == split_ind:
            stale.append(path)
    for path in stale:
        _remove(path)
    if strange and split_ind == 0:
        names = ", ".join(path.rpartition("/")[2] for path in strange)
        print(
            f"rvrun: warning: {folder} holds chips that are not of this run, and `train` will use "
            f"them too; remove them if they are not wanted: {names}",
            file=sys.stderr,
        )


def _zips(folder: str) -> list[str]:
    if not _is_local(folder):
        return list(FileSystem.get_file_system(folder, "r").list_paths(folder, ext="zip"))
    if not os.path.isdir(folder):
        return []
    # Not Raster Vision's own listing: a `[` in the path means something to it.
    names = sorted(name for name in os.listdir(folder) if name.endswith(".zip"))
    return [f"{folder.rstrip('/')}/{name}" for name in names]


def _remove(uri: str) -> None:
    if _is_local(uri):
        with contextlib.suppress(FileNotFoundError):
            os.remove(uri)
        return
    system = FileSystem.get_file_system(uri, "w")
    if not hasattr(system, "get_client") or not uri.startswith("s3://"):
        raise StaleChips(
            f"{uri} was made by an earlier try, and `train` would use it too; remove it"
        )
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    system.get_client().delete_object(Bucket=bucket, Key=key)


# Raster Vision's own worker


def repeated(document: Mapping[str, Any]) -> Mapping[str, str]:
    """`chip`, where its own worker would write chips again; as rvrun's does not (see `Chips`)."""
    if WRITERS in sys.modules and document["config"].get("chip_uri"):
        folder = document["config"]["chip_uri"]
        return {"chip": f"leaves what the first one wrote in {folder}, and `train` uses both"}
    return {}


def argv(
    uri: str,
    command: str,
    *,
    split_ind: str | None = None,
    num_splits: str | None = None,
    runner: str | None = None,
    profile: str | None = None,
    verbosity: int = 0,
    tmpdir: str | None = None,
) -> list[str]:
    """How a target is run where Raster Vision is and rvrun need not be.

    - `uri`: where its config is saved. `num_splits` without `split_ind`: `runner` tells which.
    - `profile`: only for images that have such a profile. Settings of the profile in force when
      the config was saved are saved with it.
    """
    told = [*(["-p", profile] if profile else []), *(["-v"] * verbosity)]
    told += ["--tmpdir", tmpdir] if tmpdir else []
    split = ["--split-ind", split_ind] if split_ind is not None else []
    split += ["--num-splits", num_splits] if num_splits is not None else []
    split += ["--runner", runner] if runner else []
    cli = ["python", "-m", "rastervision.pipeline.cli"]
    return [*cli, *told, "run_command", uri, command, *split]
