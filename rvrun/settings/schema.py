"""All settings: sections as attrs classes, rvrun's own and those that runners declare.

A runner's section is named after the runner and described by its `SETTINGS`, so that a third-party
runner's settings are validated and shown like all others.
"""

from __future__ import annotations

import functools
import typing
from collections.abc import Iterator, Mapping
from typing import Any, Literal, TypeVar

import attrs

from rvrun import plugins
from rvrun.errors import RvrunError

T = TypeVar("T", bound=attrs.AttrsInstance)

ENV_PREFIX = "RVRUN_"
#: More than any machine can run at once; make accepts no number that is much greater.
MAX_PARALLEL = 100_000

#: What runs the targets of another system's pipelines in jobs: that system's worker, or rvrun's.
Worker = Literal["own", "rvrun"]
WORKER = (
    "what runs Raster Vision's pipelines in jobs: its `own` worker, or `rvrun`, which requires "
    "rvrun in the images"
)


def setting(
    text: str,
    default: Any = None,
    *,
    least: int = 1,
    most: int | None = None,
    raster_vision: bool = False,
) -> Any:
    """Return an attrs field that is a setting; `text` explains it to users.

    - `least`, `most`: bounds of an integer, both inclusive; None for no bound.
    - `raster_vision`: whether Raster Vision has the same setting in the section of this name. Only
      rvrun's own runners may have such settings.
    """
    metadata = {"help": text, "least": least, "most": most, "raster_vision": raster_vision}
    return attrs.field(default=default, metadata=metadata)


def table(text: str, *, secret: bool = False) -> Any:
    """Return an attrs field that is a table of settings; `text` explains it to users.

    - `secret`: whether no message may show its values.
    """
    return attrs.field(factory=dict, metadata={"help": text, "secret": secret})


@attrs.frozen(kw_only=True)
class MachineSettings:
    """How many targets run in parallel on this machine, and on which GPUs."""

    jobs: int | None = setting(
        "targets that run in parallel; default: one per CPU", most=MAX_PARALLEL
    )
    gpus: tuple[str, ...] = setting(
        "GPUs to use, as CUDA_VISIBLE_DEVICES names them; default: all that are found", ()
    )
    gpu_slots: int | None = setting(
        "GPU targets that run in parallel, on all GPUs together; default: one per GPU, "
        "and without GPUs no limit",
        most=MAX_PARALLEL,
    )
    gpu_locks: str | None = setting(
        "directory of the GPU slots' lock files; default: a temporary directory of this user"
    )
    vcpus: int | None = setting(
        "CPUs that targets share whose `resources` declare `vcpus`; default: those of this machine",
        most=MAX_PARALLEL,
    )
    memory_mib: int | None = setting(
        "memory in MiB that targets share whose `resources` declare `memory_mib`; default: that of "
        "this machine"
    )
    warm: bool = setting(
        "whether targets are forked from a process that has imported their code, where that is "
        "possible and worth it",
        default=True,
    )
    import_after_fork: tuple[str, ...] = setting(
        "modules that only targets themselves import, with everything below them", ()
    )


@attrs.frozen(kw_only=True)
class AwsSettings:
    """`[aws]`: which account to use, and in which region."""

    profile: str | None = setting("profile of your AWS configuration; default: AWS_PROFILE")
    region: str | None = setting("region; default: AWS_REGION, or the profile's region")


@attrs.frozen(kw_only=True)
class PriceSettings:
    """`[prices]`: what machines cost, for estimates."""

    currency: str = setting("what stands before amounts", "$")
    vcpu_hour: float | None = setting("price of a vCPU for an hour", least=0)
    gpu_hour: float | None = setting("price of a GPU for an hour", least=0)
    gib_hour: float | None = setting("price of a GiB of memory for an hour", least=0)
    spot_factor: float = setting("by what prices of spot machines are multiplied", 1.0, least=0)
    spot_commands: tuple[str, ...] = setting(
        "commands on spot machines, as globs, besides those that a runner's settings tell", ()
    )
    instances: dict[str, float] = table("prices of instances for an hour, by type")


@attrs.frozen(kw_only=True)
class Settings:
    """All settings in force; `runners` has the section of each runner that declares one."""

    templates: str | None = setting(
        "directory of templates that replace rvrun's own of the same name"
    )
    imports: Literal["any", "project"] | None = setting(
        "where the code of a config may be: `any`, or `project`, the directory of rvrun.toml (else "
        "the current one) and installed packages; default: any"
    )
    code: Literal["rerun", "warn", "off"] = setting(
        "what a change of the code that a command reaches does: `rerun` the command, `warn` (plans "
        "show it, and nothing runs again), or `off`",
        "rerun",
    )
    code_packages: tuple[str, ...] = setting(
        "installed packages whose version counts as code; a new version runs everything again", ()
    )
    aws: AwsSettings = AwsSettings()
    prices: PriceSettings = PriceSettings()
    estimates: str | None = setting(
        "file with summaries of records, for estimates; default: estimates.json"
    )
    runners: Mapping[str, attrs.AttrsInstance] = attrs.field(factory=dict)

    def of(self, section: type[T]) -> T:
        """Return the section of that class; its defaults if no runner with it is installed."""
        sections = (value for value in self.runners.values() if isinstance(value, section))
        return next(sections, None) or section()


class ReservedSection(RvrunError):
    """A runner whose section would be one of rvrun's own."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __str__(self) -> str:
        return (
            f"runner `{self.name}` cannot have settings: [{self.name}] is a section of rvrun's "
            "own; rename that runner"
        )


@functools.cache
def runner_sections() -> dict[str, type[attrs.AttrsInstance]]:
    """Return the settings class of each installed runner that declares one, by its name.

    Raises `BrokenRunner` or `ReservedSection`.
    """
    classes = {name: plugins.load_runner(name).SETTINGS for name in plugins.runner_names()}
    sections = {name: cls for name, cls in classes.items() if cls is not None}
    for field in attrs.fields(Settings):
        if field.name in sections:
            raise ReservedSection(field.name)
    return sections


@attrs.frozen(kw_only=True)
class Field:
    """A setting as its class declares it: its dotted key, the type of its values, its help."""

    key: str
    type: Any
    help: str
    least: int = 1
    most: int | None = None
    raster_vision: bool = False
    secret: bool = False

    @property
    def is_table(self) -> bool:
        return typing.get_origin(self.type) is dict

    @property
    def record(self) -> type[attrs.AttrsInstance] | None:
        """The settings class of each value of a table of tables."""
        value = typing.get_args(self.type)[1] if self.is_table else None
        return value if isinstance(value, type) and attrs.has(value) else None


@functools.cache
def all_fields() -> tuple[Field, ...]:
    """Return every setting of every section, in the order in which they are shown."""
    own = (field for field in fields_of(Settings) if field.key != "runners")
    sections = runner_sections().items()
    of_runners = (field for name, cls in sections for field in fields_of(cls, f"{name}."))
    return (*own, *of_runners)


def fields_of(cls: type[attrs.AttrsInstance], prefix: str = "") -> Iterator[Field]:
    """Yield each setting of a settings class and of its sections."""
    for field in attrs.fields(attrs.resolve_types(cls)):
        if isinstance(field.type, type) and attrs.has(field.type):
            yield from fields_of(field.type, f"{prefix}{field.name}.")
        elif field.metadata:
            yield Field(key=f"{prefix}{field.name}", type=field.type, **field.metadata)


def key_of(section: type[attrs.AttrsInstance], name: str) -> str:
    """Return the dotted key of the field `name` of a runner's section: `local.jobs`."""
    # Lazily: most sections are those of rvrun's own runners.
    owners = (n for n in plugins.names_by_cost() if plugins.load_runner(n).SETTINGS is section)
    return f"{next(owners, section.__name__)}.{name}"


def variable(key: str) -> str:
    """Return the environment variable of a key: `local.jobs` gives `RVRUN_LOCAL_JOBS`."""
    return ENV_PREFIX + key.upper().replace(".", "_")
