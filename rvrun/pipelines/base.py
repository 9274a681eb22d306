"""What users subclass: a `PipelineConfig` says what to do, the `Pipeline` it builds does it.

Light on purpose: every target's process imports this module, so neither attrs nor typing is
imported here. Config classes become attrs classes the first time that is asked of them.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import Any, ClassVar, Self, TypeVar, dataclass_transform

    import attrs

    from rvrun.model import Resources

    T = TypeVar("T")
    C = TypeVar("C", bound="type[Config]")
    config_class = dataclass_transform(
        kw_only_default=True, frozen_default=True, field_specifiers=(attrs.field,)
    )
else:

    def config_class(cls):  # noqa: ANN001, ANN201
        return cls


#: Config classes by the names `register` gave them.
REGISTERED: dict[str, type[Config]] = {}


class _AttrsOnDemand:
    """Stands for `__attrs_attrs__` until it is first read, then makes the class an attrs class.

    Reading it is how attrs, cattrs and everything built on them ask a class for its fields, so
    the delay cannot be seen from outside, except that a process that never asks never pays the
    30 ms that importing attrs costs.
    """

    def __get__(self, instance: object, cls: type[Config]) -> Any:
        import attrs

        attrs.define(
            cls,
            auto_attribs=True,
            slots=False,
            frozen=True,
            kw_only=True,
            # Those of Config, unless a base that the user decorated has its own.
            eq=cls.__eq__ is not Config.__eq__,
            repr=cls.__repr__ is not Config.__repr__,
            field_transformer=_check_types,
        )
        # Those of Config say what is frozen.
        del cls.__setattr__, cls.__delattr__
        return cls.__dict__["__attrs_attrs__"]


def _check_types(cls: type, fields: list[attrs.Attribute[Any]]) -> list[attrs.Attribute[Any]]:
    """An attrs field transformer: each value must be of its field's type."""
    import attrs

    def checked(field: attrs.Attribute[Any]) -> attrs.Attribute[Any]:
        validators = [_check_type, *([field.validator] if field.validator else [])]
        return field.evolve(validator=attrs.validators.and_(*validators))

    # Inherited fields have their check already.
    return [checked(field) if field.name in cls.__annotations__ else field for field in fields]


def _check_type(config: Config, field: attrs.Attribute[Any], value: object) -> None:
    """An attrs validator. Types are looked up here, when all classes that they name exist."""
    import attrs

    cls = type(config)
    expected = getattr(attrs.fields(attrs.resolve_types(cls)), field.name).type
    if type(value) is expected:
        return
    import typeguard  # 70 ms, for what is not as plain as a text or a number

    try:
        typeguard.check_type(
            value, expected, collection_check_strategy=typeguard.CollectionCheckStrategy.ALL_ITEMS
        )
    except typeguard.TypeCheckError as error:
        raise TypeError(f"{cls.__name__}.{field.name} = {value!r}: {error}") from None


@config_class
class Config:
    """A frozen, validated record with typed fields, which round-trips through JSON.

    Write fields as annotations, with or without a default; `attrs.field(...)` with validators
    and converters works too. Fields are given by keyword. Configs nest.

        class Scene(rvrun.Config):
            image: str
            bands: tuple[int, ...] = (0, 1, 2)

    Where the fields of a class change, raise `config_version` and lift old files in `upgrade`.
    """

    #: The version of this class's fields; saved with them.
    config_version = 1

    if TYPE_CHECKING:
        __attrs_attrs__: ClassVar[tuple[attrs.Attribute[Any], ...]]
    else:
        __attrs_attrs__ = ()

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        for name in _field_names(cls.__mro__[1:]) & cls.__dict__.keys() - _field_names((cls,)):
            place = f"`{cls.__name__}.{name}`"
            raise TypeError(f"{place} is a field: write its annotation too, `{name}: TYPE = ...`")
        if "__attrs_attrs__" not in cls.__dict__:
            cls.__attrs_attrs__ = _AttrsOnDemand()  # type: ignore[assignment]

    def __new__(cls, *args: object, **fields: object) -> Self:
        cls.__attrs_attrs__  # noqa: B018 - makes the class an attrs class, which writes __init__
        return object.__new__(cls)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{type(self).__name__} is frozen: `{name}` cannot be set")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"{type(self).__name__} is frozen: `{name}` cannot be deleted")

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and vars(self) == vars(other)

    def __hash__(self) -> int:
        return hash((type(self), *vars(self).values()))

    def __repr__(self) -> str:
        fields = ", ".join(f"{name}={value!r}" for name, value in vars(self).items())
        return f"{type(self).__qualname__}({fields})"

    @classmethod
    def upgrade(cls, fields: dict[str, Any], version: int) -> dict[str, Any]:
        """Lift `fields` (plain JSON values) as `version` saved them to what `version + 1` wants.

        Called once for each version between the saved one and `config_version`.
        """
        raise NotImplementedError(
            f"{cls.__name__} has config_version {cls.config_version} but no `upgrade` that "
            f"lifts version {version}"
        )


def _field_names(classes: Iterable[type]) -> set[str]:
    return {name for cls in classes for name in vars(cls).get("__annotations__", ())}


class PipelineConfig(Config):
    """What one pipeline is to do. Subclass it, add fields, and build the pipeline.

    - `root_uri`: where the pipeline reads and writes, a path or a URI.
    - `name`: the pipeline's name in plans, targets and file names; unique in a run. Empty
      stands for the class's name in lower case, without `PipelineConfig` or `Config` at its end.
    """

    root_uri: str
    name: str = ""

    def build(self) -> Pipeline:
        """The pipeline of this config."""
        raise NotImplementedError(f"{type(self).__name__} has no method `build`")


class Pipeline:
    """Commands that run in order, each a method of that name. Class attributes or properties.

    class Tiny(rvrun.Pipeline):
        commands = ("chip", "train", "predict")
        split_commands = ("chip", "predict")
        gpu_commands = ("train", "predict")

        def chip(self, split_ind=0, num_splits=1): ...
        def train(self): ...
        def predict(self, split_ind=0, num_splits=1): ...
    """

    #: All commands, in the order in which they run.
    commands: Sequence[str] = ()
    #: Those that can be split into parallel parts; they take `split_ind` and `num_splits`.
    split_commands: Sequence[str] = ()
    #: Those that need a GPU.
    gpu_commands: Sequence[str] = ()
    #: What a command needs; one not named here needs the one before it in `commands`.
    #: `aligned("chip")` instead of `"chip"`: split i needs split i only.
    needs: Mapping[str, Sequence[str]] = {}
    #: Fields of the config that a command depends on (`"model.lr"` for a nested one); others
    #: may change without running it again. One not named here depends on the whole config.
    config_keys: Mapping[str, Sequence[str]] = {}
    #: What a command asks of the machine that runs it.
    resources: Mapping[str, Resources] = {}

    def __init__(self, config: Any) -> None:
        self.config = config

    def count_items(self, command: str) -> int | None:
        """How many items the splits of `command` share out; None where that is not known yet.

        Only used to warn when a plan has more splits than items.
        """
        return None


class Aligned(str):
    """The name of a needed command of which split i needs only split i; see `aligned`."""

    __slots__ = ()


def aligned(command: str) -> Aligned:
    """In `needs`: each split needs only the split of `command` that has the same index."""
    return Aligned(command)


def register(name: str) -> Callable[[C], C]:
    """A class decorator: saved configs of type `name` are read as the decorated class.

    For a class that was renamed or moved: `@register("old_module:OldName")`.
    """

    def decorate(cls: C) -> C:
        REGISTERED[name] = cls
        return cls

    return decorate


def share(items: Sequence[T], split_ind: int, num_splits: int) -> Sequence[T]:
    """The share of `items` that split `split_ind` of `num_splits` works on.

    Shares are contiguous, in order, and their sizes differ by at most one, the larger first: 75
    items in 5 splits are 15 each. With more splits than items the last shares are empty.
    """
    if num_splits < 1:
        raise ValueError(f"num_splits must be at least 1, not {num_splits}")
    if not 0 <= split_ind < num_splits:
        raise ValueError(f"split_ind must be in 0..{num_splits - 1}, not {split_ind}")
    size, larger = divmod(len(items), num_splits)
    start = split_ind * size + min(split_ind, larger)
    return items[start : start + size + (split_ind < larger)]
