"""Settings in layers, each over those after it:

    flags > RVRUN_* environment > rvrun.toml or [tool.rvrun] in pyproject.toml > profile
    > Raster Vision's (see `rv_settings`) > defaults

The profile is `$XDG_CONFIG_HOME/rvrun/<profile>.toml` (`~/.config/rvrun/default.toml`). Keys that
rvrun does not know are errors, wherever they stand. The only door to typed_settings.
"""

from __future__ import annotations

import os
import pathlib
import tomllib
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import attrs
import typed_settings as ts
from typed_settings.converters import TSConverter
from typed_settings.dict_utils import set_path
from typed_settings.types import LoadedSettings, LoaderMeta, OptionList, SettingsClass

from rvrun.adapters.raster_vision import settings as rv_settings
from rvrun.errors import RvrunError, UnknownName
from rvrun.worker.target import INTERNAL

ENV_PREFIX = "RVRUN_"
PROFILE = "RVRUN_PROFILE"


def setting(text: str, default: Any = None, **more: Any) -> Any:
    """A field that is a setting, which `text` explains.

    `least` and `most` bound a number, if it is not to be any of at least 1.
    """
    return attrs.field(default=default, metadata={"help": text, **more})


def table(text: str) -> Any:
    """A field that is a table of settings, which `text` explains."""
    return attrs.field(factory=dict, metadata={"help": text})


@attrs.frozen(kw_only=True)
class LocalSettings:
    """`[local]`: running on this machine."""

    jobs: int | None = setting("targets that run at once; not set: one for each CPU")
    gpus: tuple[str, ...] = setting(
        "GPUs to use, as CUDA_VISIBLE_DEVICES names them; not set: all found", ()
    )
    gpu_slots: int | None = setting(
        "GPU targets that run at once, on all GPUs; not set: one for each GPU"
    )
    gpu_locks: str | None = setting(
        "folder of the slots' lock files; not set: a temporary one of this user"
    )


@attrs.frozen(kw_only=True)
class AwsSettings:
    """`[aws]`: whose account, and where."""

    profile: str | None = setting("profile of your AWS configuration; not set: AWS_PROFILE")
    region: str | None = setting("region; not set: AWS_REGION, or that of the profile")


@attrs.frozen(kw_only=True)
class BatchJobSettings:
    """What `[batch]` can say of all jobs, and `[batch.commands.GLOB]` of those of some commands."""

    vcpus: int | None = setting("vCPUs of a job; not set: as its definition says")
    memory_mib: int | None = setting("memory of a job in MiB; not set: as its definition says")
    gpus: int | None = setting("GPUs of a GPU command's job; not set: as its definition says")
    attempts: int | None = setting(
        "tries of each job, 1 to 10; not set: as its definition says", most=10
    )
    retry: Literal["any", "spot"] = setting(
        "what is tried again: `any` failure, or a `spot` instance taken away", "any"
    )
    timeout_seconds: int | None = setting("how long a try may take, at least 60", least=60)
    share_identifier: str | None = setting("share of a queue with a fair-share policy")
    scheduling_priority: int | None = setting(
        "priority within the share, 0 to 9999", least=0, most=9999
    )
    tags: dict[str, str] = table("tags of the jobs")
    environment: dict[str, str] = table("environment variables of the jobs; no secrets")


@attrs.frozen(kw_only=True)
class BatchCommandSettings(BatchJobSettings):
    """`[batch.commands.GLOB]`: jobs of the commands that GLOB matches."""

    job_queue: str | None = setting("job queue")
    job_def: str | None = setting("job definition")
    retry: Literal["any", "spot"] | None = setting("as in [batch]")  # type: ignore[assignment]


#: What runs the targets of Raster Vision's pipelines in jobs.
Worker = Literal["own", "rvrun"]
WORKER = (
    "what runs Raster Vision's pipelines: its `own` worker, or `rvrun`, which images then must have"
)


@attrs.frozen(kw_only=True)
class BatchSettings(BatchJobSettings):
    """`[batch]`: running on AWS Batch. The names are Raster Vision's where it has them."""

    cpu_job_queue: str | None = setting("job queue of commands that need no GPU")
    cpu_job_def: str | None = setting("job definition of commands that need no GPU")
    gpu_job_queue: str | None = setting("job queue of GPU commands")
    gpu_job_def: str | None = setting("job definition of GPU commands")
    submit_rate: int = setting("jobs submitted a second, at most 50", 40, most=50)
    worker: Worker = setting(WORKER, "own")
    commands: dict[str, BatchCommandSettings] = table(
        "the same for commands that a glob matches: [batch.commands.GLOB]"
    )


@attrs.frozen(kw_only=True)
class SagemakerCommandSettings:
    """`[sagemaker.commands.GLOB]`: steps of the commands that GLOB matches."""

    image: str | None = setting("image")
    instance_type: str | None = setting("instance type")
    volume_size: int | None = setting("as in [sagemaker]", most=16384)
    max_run_time: int | None = setting("as in [sagemaker]")
    train_instance_count: int | None = setting("as in [sagemaker]")
    processes_per_instance: int | None = setting("as in [sagemaker]")
    use_spot_instances: bool | None = setting("as in [sagemaker]")
    spot_instance_max_wait_time: int | None = setting("as in [sagemaker]")
    split_by: Literal["steps", "instances"] | None = setting("as in [sagemaker]")
    max_instances: int | None = setting("as in [sagemaker]", most=100)
    attempts: int | None = setting("as in [sagemaker]", most=21)
    retry_interval: int | None = setting("as in [sagemaker]", most=43200)
    cache_expire_after: str | None = setting("as in [sagemaker]")
    tags: dict[str, str] = table("tags of the jobs")
    environment: dict[str, str] = table("environment variables of the jobs; no secrets")


@attrs.frozen(kw_only=True)
class SagemakerSettings:
    """`[sagemaker]`: running on SageMaker Pipelines. Raster Vision's names where it has them."""

    role: str | None = setting("role that pipeline and jobs run as: its ARN or name")
    cpu_image: str | None = setting("image of commands that need no GPU")
    cpu_instance_type: str | None = setting("instance type of commands that need no GPU")
    gpu_image: str | None = setting("image of GPU commands")
    gpu_instance_type: str | None = setting("instance type of GPU commands")
    train_image: str | None = setting("image of training steps; not set: as other commands")
    train_instance_type: str | None = setting(
        "instance type of training steps; not set: as other commands"
    )
    train_instance_count: int = setting(
        "instances of a training step; with several, it runs under torchrun on each", 1
    )
    processes_per_instance: int | None = setting(
        "processes that torchrun starts on an instance; not set: one a GPU, at least one"
    )
    train_commands: tuple[str, ...] = setting("commands that are training steps", ("train",))
    use_spot_instances: bool = setting("training steps on managed spot instances", default=False)
    spot_instance_max_wait_time: int | None = setting(
        "seconds that a training step on spot instances may take, waiting included; not set: "
        "as max_run_time"
    )
    max_run_time: int = setting("seconds that a job may run", 86400)
    split_by: Literal["steps", "instances"] = setting(
        "what runs a split: a step of its own, or an instance of one step", "steps"
    )
    max_instances: int = setting("instances of a step, where they are splits", 100, most=100)
    worker: Worker = setting(WORKER, "own")
    max_steps: int = setting("your account's quota of steps in a pipeline", 50)
    definitions: Literal["one", "each"] = setting(
        "several pipelines: `one` definition for all, or one for `each`", "one"
    )
    pipeline_name: str | None = setting(
        "name of the one definition; not set: that of the pipeline or of the run directory"
    )
    parallel_steps: int | None = setting("steps that run at once; not set: all that can")
    volume_size: int = setting("GB of the volume of an instance", 30, most=16384)
    attempts: int = setting(
        "tries of a step where the service or its capacity fails, not the command; 1 to 21",
        4,
        most=21,
    )
    retry_interval: int = setting(
        "seconds before the second try; twice as long before each further one", 60, most=43200
    )
    cache_expire_after: str | None = setting(
        "how long the result of a step counts as that of an equal one, such as P30D; not set: never"
    )
    kms_key: str | None = setting("key that volumes and outputs are encrypted with")
    subnets: tuple[str, ...] = setting("subnets of your VPC that jobs run in", ())
    security_groups: tuple[str, ...] = setting("security groups of jobs in your VPC", ())
    encrypt_traffic: bool = setting("encryption between the instances of a step", default=False)
    tags: dict[str, str] = table("tags of pipelines and jobs")
    environment: dict[str, str] = table("environment variables of the jobs; no secrets")
    commands: dict[str, SagemakerCommandSettings] = table(
        "the same for commands that a glob matches: [sagemaker.commands.GLOB]"
    )


@attrs.frozen(kw_only=True)
class Settings:
    """All settings; a section each for what belongs together."""

    templates: str | None = setting("folder of templates that replace rvrun's own of the same name")
    local: LocalSettings = LocalSettings()
    aws: AwsSettings = AwsSettings()
    batch: BatchSettings = BatchSettings()
    sagemaker: SagemakerSettings = SagemakerSettings()


class BadSetting(RvrunError):
    """A setting's value that cannot be used, or a settings file that cannot be read."""

    def __init__(self, origin: str, problem: str) -> None:
        self.origin = origin
        self.problem = problem

    def __str__(self) -> str:
        return f"{self.origin}: {self.problem}"


@attrs.frozen(kw_only=True)
class Field:
    """A setting as its class declares it: its dotted key, the type of its values, what it is."""

    key: str
    type: Any
    help: str
    least: int
    most: int | None

    @property
    def is_table(self) -> bool:
        return typing.get_origin(self.type) is dict

    @property
    def record(self) -> type | None:
        """Of a table of tables, what each of those is."""
        value = typing.get_args(self.type)[1] if self.is_table else None
        return value if isinstance(value, type) and attrs.has(value) else None


@attrs.frozen
class Layer:
    """What one origin sets: dotted keys and their values."""

    origin: str
    values: Mapping[str, Any]

    def __call__(self, settings_cls: SettingsClass, options: OptionList) -> LoadedSettings:
        """A typed_settings loader."""
        nested: dict[str, Any] = {}
        for key, value in self.values.items():
            set_path(nested, key, value)
        return LoadedSettings(nested, LoaderMeta(self.origin))


@attrs.frozen(kw_only=True)
class Option:
    """One setting: what it is called where, its value and where that comes from.

    `variable` is empty for what no environment variable can say.
    """

    key: str
    variable: str
    help: str
    value: Any
    origin: str


def load_settings(flags: Mapping[str, Any] | None = None, profile: str | None = None) -> Settings:
    """The settings in force. `flags` are dotted keys given on the command line; None is not given.

    Raises `UnknownName` or `BadSetting`, naming the file or variable.
    """
    return _settings(layers(flags or {}, profile))


def _settings(found: list[Layer]) -> Settings:
    return ts.load_settings(Settings, found, converter=TSConverter(strlist_sep=None))


def options(flags: Mapping[str, Any] | None = None, profile: str | None = None) -> list[Option]:
    """Every setting with its value and the origin of that, as `rvrun config` shows them."""
    found = layers(flags or {}, profile)
    settings = _settings(found)
    return [
        Option(
            key=field.key,
            variable="" if field.record else variable(field.key),
            help=field.help,
            value=_value(settings, field.key),
            origin=_origin(found, field) or "default",
        )
        for field in fields_of(Settings)
    ]


def origin_of(key: str, flags: Mapping[str, Any], profile: str | None = None) -> str:
    """Where the value of a setting comes from; empty if nowhere sets it."""
    field = next(field for field in fields_of(Settings) if field.key == key)
    return _origin(layers(flags, profile), field)


def _origin(found: list[Layer], field: Field) -> str:
    """The strongest layer that sets it; of a table, which layers add to, all of them."""
    origins = [layer.origin for layer in reversed(found) if field.key in layer.values]
    return ", ".join(origins if field.is_table else origins[:1])


def layers(flags: Mapping[str, Any], profile: str | None) -> list[Layer]:
    """All layers that set something, the weakest first, their keys checked.

    Where a layer says something of a table, it holds also what weaker ones say of it.
    """
    found = [
        *_raster_vision_layers(profile),
        *_profile_layer(profile or os.environ.get(PROFILE) or None),
        *_project_layer(),
        *_environment_layers(),
    ]
    given = {key: value for key, value in flags.items() if value is not None}
    return _deepened([*found, _layer("the command line", given)])


def _deepened(found: list[Layer]) -> list[Layer]:
    whole: dict[str, Any] = {}
    deepened = []
    for layer in found:
        values = {key: _merged(whole.get(key), value) for key, value in layer.values.items()}
        whole.update(values)
        deepened.append(Layer(layer.origin, values))
    return deepened


def _merged(weak: Any, strong: Any) -> Any:
    if not isinstance(weak, dict) or not isinstance(strong, dict):
        return strong
    own = {key: _merged(weak.get(key), value) for key, value in strong.items()}
    return {**weak, **own}


def _layer(origin: str, values: Mapping[str, Any]) -> Layer:
    """A layer of values as they were found, each checked and made what its setting is."""
    known = {field.key: field for field in fields_of(Settings)}
    return Layer(origin, {key: _checked(origin, known[key], values[key]) for key in values})


def _checked(origin: str, field: Field, value: Any) -> Any:
    if field.record is not None:
        return _checked_records(origin, field, field.record, value)
    is_right, wanted = _expectation(field)
    if not is_right(value):
        raise BadSetting(origin, f"`{field.key}` cannot be {value!r}: give {wanted}")
    return tuple(map(str, value)) if isinstance(value, list) else value


def _expectation(field: Field) -> tuple[Any, str]:
    """What a value must be, as a test and in words."""
    plain = next(x for x in (*typing.get_args(field.type), field.type) if x is not types.NoneType)
    if field.is_table:
        return _is_table, "a table of texts"
    if typing.get_origin(field.type) is tuple:
        return _is_list, "a list of texts"
    if choices := _choices(field.type):
        return lambda value: value in choices, f"one of {', '.join(choices)}"
    if plain is bool:
        return lambda value: isinstance(value, bool), "true or false"
    if plain is int:
        return lambda value: _is_whole(value, field), _range(field)
    return lambda value: isinstance(value, str), "a text"


def _choices(type_: Any) -> tuple[str, ...]:
    """Of a Literal, also of one that may be None, what it may be."""
    for member in (type_, *typing.get_args(type_)):
        if typing.get_origin(member) is Literal:
            return typing.get_args(member)
    return ()


def _is_list(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str | int) for item in value)


def _is_table(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(item, str) for item in value.values())


def _is_whole(value: Any, field: Field) -> bool:
    if type(value) is not int:
        return False
    return field.least <= value <= (value if field.most is None else field.most)


def _range(field: Field) -> str:
    if field.most is None:
        return f"a whole number of at least {field.least}"
    return f"a whole number from {field.least} to {field.most}"


def _checked_records(origin: str, field: Field, record: type, value: Any) -> dict[str, Any]:
    """A table of tables, with each one's keys and values checked like those of a section."""
    if not isinstance(value, dict) or not all(isinstance(item, dict) for item in value.values()):
        raise BadSetting(origin, f"`{field.key}` cannot be {value!r}: write [{field.key}.NAME]")
    checked: dict[str, Any] = {}
    for name, items in value.items():
        place = f'{field.key}."{name}"'
        known = {each.key: each for each in fields_of(record)}
        for key in items:
            if key not in known:
                raise UnknownName("setting", key, tuple(known), f"{origin} [{place}]")
        checked[name] = {
            key: _checked(origin, attrs.evolve(known[key], key=f"{place}.{key}"), item)
            for key, item in items.items()
        }
    return checked


def variable(key: str) -> str:
    """`local.gpu_slots` → `RVRUN_LOCAL_GPU_SLOTS`."""
    return ENV_PREFIX + key.upper().replace(".", "_")


def fields_of(cls: type, prefix: str = "") -> Iterator[Field]:
    """Each setting of a class of settings and its sections."""
    for field in attrs.fields(attrs.resolve_types(cls)):
        if attrs.has(field.type):
            yield from fields_of(field.type, f"{prefix}{field.name}.")
        else:
            yield Field(
                key=f"{prefix}{field.name}",
                type=field.type,
                help=field.metadata["help"],
                least=field.metadata.get("least", 1),
                most=field.metadata.get("most"),
            )


def _sections() -> set[str]:
    return {key.rpartition(".")[0] for key in _keys()}


def _keys() -> tuple[str, ...]:
    return tuple(field.key for field in fields_of(Settings))


def _value(settings: Settings, key: str) -> Any:
    value: Any = settings
    for part in key.split("."):
        value = getattr(value, part)
    return value


def _raster_vision_layers(profile: str | None) -> Iterator[Layer]:
    known = {field.key: field for field in fields_of(Settings)}
    for origin, texts in rv_settings.layers(profile):
        yield _layer(origin, {key: _read_text(text, known[key]) for key, text in texts.items()})


def _profile_layer(profile: str | None) -> Iterator[Layer]:
    base = os.environ.get("XDG_CONFIG_HOME") or os.path.join(os.path.expanduser("~"), ".config")
    path = pathlib.Path(base, "rvrun", f"{profile or 'default'}.toml")
    if path.exists():
        yield _file_layer(path, _read_toml(path))
    elif profile is not None and not rv_settings.has_profile(profile):
        places = [str(path), *rv_settings.profile_file(profile)]
        raise BadSetting(f"profile `{profile}`", f"there is no file {' nor '.join(places)}")


def project_file() -> str:
    """The file of the project's settings, `rvrun.toml` where there is none."""
    return next((layer.origin for layer in _project_layer()), "rvrun.toml (there is none yet)")


def _project_layer() -> Iterator[Layer]:
    """`rvrun.toml`, else `pyproject.toml` if it speaks of rvrun, in the nearest folder upwards."""
    for folder in (pathlib.Path.cwd(), *pathlib.Path.cwd().parents):
        own, project = folder / "rvrun.toml", folder / "pyproject.toml"
        if own.exists():
            yield _file_layer(own, _read_toml(own))
            return
        if project.exists():
            tool = _read_toml(project).get("tool")
            section = tool.get("rvrun") if isinstance(tool, dict) else None
            if section is not None and not isinstance(section, dict):
                problem = f"`tool.rvrun` cannot be {section!r}: write a section"
                raise BadSetting(str(project), problem)
            if section is not None:
                yield _file_layer(project, section, "tool.rvrun.")
                return


def _read_toml(path: pathlib.Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadSetting(str(path), f"cannot be read: {error}") from None


def _file_layer(path: pathlib.Path, content: Mapping[str, Any], section: str = "") -> Layer:
    values = dict(_flatten(content))
    known = _keys()
    for key in values:
        if key not in known:
            place = f"{path}{f' [{section[:-1]}]' if section else ''}"
            raise UnknownName("setting", key, known, place, _nearby(key, known, "."))
    return _layer(_shown(path), values)


def _nearby(name: str, known: tuple[str, ...], separator: str) -> tuple[str, ...]:
    """Those of the section that `name` speaks of; where there is none, the sections."""
    section = name.split(separator, maxsplit=1)[0] + separator
    bare = {each: each.removeprefix(ENV_PREFIX) for each in known}
    inside = tuple(each for each in known if bare[each].startswith(section))
    return inside or tuple(dict.fromkeys(each.split(".")[0] for each in known))


def _shown(path: pathlib.Path) -> str:
    """Relative where that is shorter to read."""
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative


def _flatten(content: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in content.items():
        full = f"{prefix}{key}"
        if full not in _keys() and isinstance(value, dict) and (value or full in _sections()):
            yield from _flatten(value, f"{full}.")
        else:
            yield full, value


def _environment_layers() -> Iterator[Layer]:
    """A layer for each variable, so that an error and an origin can name it."""
    by_variable = {variable(f.key): f for f in fields_of(Settings) if f.record is None}
    for name in sorted(os.environ):
        if not name.startswith(ENV_PREFIX) or name in (*INTERNAL, PROFILE):
            continue
        if name not in by_variable:
            known = tuple(by_variable)
            nearby = _nearby(name.removeprefix(ENV_PREFIX), known, "_")
            raise UnknownName("environment variable", name, known, nearby=nearby)
        field = by_variable[name]
        yield _layer(name, {field.key: _read_text(os.environ[name], field)})


_TRUTH = {"true": True, "1": True, "false": False, "0": False}


def _read_text(text: str, field: Field) -> Any:
    """What a variable says, where it says something of its kind; else the text, to be refused."""
    kinds = (field.type, *typing.get_args(field.type))
    if field.is_table:
        return _read_table(text)
    if typing.get_origin(field.type) is tuple:
        return [item.strip() for item in text.split(",") if item.strip()]
    if bool in kinds:
        return _TRUTH.get(text.lower(), text)
    number = int(text) if int in kinds and text.isascii() and text.isdigit() else None
    return number if _is_whole(number, field) else text


def _read_table(text: str) -> dict[str, str] | str:
    """`KEY=VALUE,KEY=VALUE`; the text where it is none of that."""
    pairs = [item.partition("=") for item in text.split(",") if item.strip()]
    if not all(key.strip() and equals for key, equals, _ in pairs):
        return text
    return {key.strip(): value.strip() for key, _, value in pairs}
