"""The classes that users subclass: a `PipelineConfig` describes the work, its `Pipeline` does it.

Light on purpose: every target's process imports this module, so it imports neither attrs nor
typing at its top. A config class becomes an attrs class the first time attrs looks at it.
"""

from __future__ import annotations

import importlib

from rvrun.text import quoted, shorten

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import Any, ClassVar, Self, TypeVar, dataclass_transform

    import attrs

    from rvrun.model import Resources

    T = TypeVar("T")
    C = TypeVar("C", bound="type[Config]")

    # Type checkers see the fields of its subclasses. A decorator of Config would import typing.
    @dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(attrs.field,))
    class _Fields: ...

else:
    _Fields = object


#: Config classes by the names under which `register` registered them.
REGISTERED: dict[str, type[Config]] = {}


class _AttrsOnDemand:
    """A descriptor that stands for `__attrs_attrs__` until it is read, then runs `attrs.define`.

    attrs, cattrs and everything built on them read `__attrs_attrs__` to get a class's fields, so
    the delay cannot be observed. A process that never reads it saves the 30 ms of importing attrs.
    """

    def __get__(self, instance: object, cls: type[Config]) -> Any:
        import attrs

        attrs.define(
            cls,
            auto_attribs=True,
            slots=False,
            frozen=True,
            kw_only=True,
            # Keep Config's methods, unless a base that the user decorated with attrs has its own.
            eq=cls.__eq__ is not Config.__eq__,
            repr=cls.__repr__ is not Config.__repr__,
            field_transformer=_check_types,
        )
        # Config's own methods name the class and the field in their error.
        del cls.__setattr__, cls.__delattr__
        return cls.__dict__["__attrs_attrs__"]


def _check_types(cls: type, fields: list[attrs.Attribute[Any]]) -> list[attrs.Attribute[Any]]:
    """An attrs field transformer that checks each value against its field's type."""
    import attrs

    def checked(field: attrs.Attribute[Any]) -> attrs.Attribute[Any]:
        validators = [_check_type, *([_explained(field.validator)] if field.validator else [])]
        return field.evolve(validator=attrs.validators.and_(*validators))

    # Inherited fields are checked already.
    own = own_annotations(cls)
    return [checked(field) if field.name in own else field for field in fields]


def _check_type(config: Config, field: attrs.Attribute[Any], value: object) -> None:
    """An attrs validator. It resolves types only now, when all classes that they name exist."""
    import attrs

    cls = type(config)
    expected = getattr(attrs.fields(attrs.resolve_types(cls)), field.name).type
    if type(value) is expected or _is_plain_sequence(value, expected):
        return
    import typeguard  # 70 ms, so only for values whose type is not simply a class

    try:
        typeguard.check_type(
            value, expected, collection_check_strategy=typeguard.CollectionCheckStrategy.ALL_ITEMS
        )
    except typeguard.TypeCheckError as error:
        problem = f"{cls.__name__}.{field.name} = {quoted(value)}: {shorten(str(error))}"
        raise InvalidType(problem, field.name) from None


def _is_plain_sequence(value: Any, expected: Any) -> bool:
    """Whether a value is a `tuple[X, ...]` or `list[X]` of a plain type, as is expected.

    typeguard needs a second for a list of 100,000 items.
    """
    origin: Any = getattr(expected, "__origin__", None)
    arguments: Any = getattr(expected, "__args__", ())
    is_homogeneous = (origin is tuple and arguments[1:] == (...,)) or origin is list
    is_plain = is_homogeneous and arguments[0] in (str, int, float, bool)
    return is_plain and type(value) is origin and set(map(type, value)) <= {arguments[0]}


class InvalidType(TypeError):
    """A value of another type than its config field's; a sentence, and the field's name."""

    def __init__(self, problem: str, field: str) -> None:
        super().__init__(problem)
        self.field = field


class InvalidValue(ValueError):
    """A value that a validator of attrs refuses; a sentence, and the field's name."""

    def __init__(self, problem: str, field: str) -> None:
        super().__init__(problem)
        self.field = field


def _explained(validator: Any) -> Any:
    """Like `validator`, but what attrs raises becomes a sentence with class, rule and value."""

    def validate(config: Config, field: attrs.Attribute[Any], value: object) -> None:
        try:
            validator(config, field, value)
        except (ValueError, TypeError) as error:
            import traceback

            *_, (last, _) = traceback.walk_tb(error.__traceback__)
            # A validator of the user's own is their code: its traceback is theirs to see.
            if not last.f_globals.get("__name__", "").startswith("attr."):
                raise
            name = f"{type(config).__name__}.{field.name}"
            problem = _rephrase(str(error.args[0]), name, field.name, value)
            raise InvalidValue(problem, field.name) from None

    return validate


def _rephrase(message: str, name: str, field: str, value: object) -> str:
    """Attrs' message, "'lr' must be > 0: -1", in rvrun's words: "`Tiny.lr` must be > 0, got -1"."""
    rule = message.partition(" (got ")[0].partition(": ")[0]
    subject = f"'{field}' "
    if not rule.startswith(subject):
        return f"`{name}` = {quoted(value)}: {shorten(message)}"
    return f"`{name}` {shorten(rule.removeprefix(subject))}, got {quoted(value)}"


class Config(_Fields):
    """A frozen, validated record with typed fields that survives a JSON round trip.

    Declare fields as annotations, with or without a default; `attrs.field(...)` with validators
    and converters works too. Fields are passed by keyword. Configs nest.

        class Scene(rvrun.Config):
            image: str
            bands: tuple[int, ...] = (0, 1, 2)

    When the fields of a class change, increment `config_version` and implement `upgrade`, so that
    files saved earlier can still be read.
    """

    #: The version of this class's fields, saved with them.
    config_version = 1

    if TYPE_CHECKING:
        __attrs_attrs__: ClassVar[tuple[attrs.Attribute[Any], ...]]
    else:
        __attrs_attrs__ = ()

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        for name in _field_names(cls.__mro__[1:]) & cls.__dict__.keys() - _field_names((cls,)):
            attribute = f"`{cls.__name__}.{name}`"
            raise TypeError(f"{attribute} overrides a field; annotate it: `{name}: TYPE = ...`")
        if "__attrs_attrs__" not in cls.__dict__:
            cls.__attrs_attrs__ = _AttrsOnDemand()  # type: ignore[assignment]

    def __new__(cls, *args: object, **fields: object) -> Self:
        cls.__attrs_attrs__  # noqa: B018 - runs attrs.define, which adds __init__
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
        """Convert `fields` (JSON values) from `version` to `version + 1`, and return them.

        Called once for each version from the saved one up to `config_version`.
        """
        raise NotImplementedError(
            f"{cls.__name__} has config_version {cls.config_version}, but its `upgrade` does not "
            f"convert version {version}"
        )


def own_annotations(cls: type) -> Mapping[str, object]:
    """Return the annotations that `cls` itself declares, not those of its bases, by field."""
    annotations: Mapping[str, object]
    try:
        annotations = getattr(cls, "__annotations__", {})
    except NameError:
        # Python 3.14 evaluates annotations when they are read, and a class that refers to itself
        # does not exist yet while `__init_subclass__` runs.
        lib = importlib.import_module("annotationlib")
        annotations = lib.get_annotations(cls, format=lib.Format.FORWARDREF)
    return annotations


def _field_names(classes: Iterable[type]) -> set[str]:
    return {name for cls in classes for name in own_annotations(cls)}


class PipelineConfig(Config):
    """The config of one pipeline. Subclass it, add fields, and implement `build`.

    - `root_uri`: where the pipeline reads and writes, a path or a URI.
    - `name`: the pipeline's name in plans, targets and file names; unique in a run. Default: the
      class's name in lower case, without `PipelineConfig`, `Config` or `Pipeline` at its end.
    """

    root_uri: str
    name: str = ""

    def build(self) -> Pipeline:
        """Return the pipeline of this config."""
        raise NotImplementedError(f"{type(self).__name__} must define a method `build`")


class Pipeline:
    """A sequence of commands, each a method of the same name.

        class Tiny(rvrun.Pipeline):
            commands = ("chip", "train", "predict")
            split_commands = ("chip", "predict")
            gpu_commands = ("train", "predict")

            def chip(self, split_ind=0, num_splits=1): ...
            def train(self): ...
            def predict(self, split_ind=0, num_splits=1): ...

    The attributes may be class attributes, or properties that depend on `self.config`.
    """

    #: All commands, in the order in which they run.
    commands: Sequence[str] = ()
    #: Commands that can be split into parallel parts; they accept `split_ind` and `num_splits`,
    #: or what `items` describes.
    split_commands: Sequence[str] = ()
    #: Commands that require a GPU.
    gpu_commands: Sequence[str] = ()
    #: The commands that each command depends on. Default: the one before it in `commands`.
    #: With `aligned("chip")` instead of `"chip"`, split i depends only on split i.
    needs: Mapping[str, Sequence[str]] = {}
    #: The config fields that each command depends on (`"model.lr"` for a nested one); changing
    #: other fields does not make it stale. Default: the whole config.
    config_keys: Mapping[str, Sequence[str]] = {}
    #: The number of splits of each command, unless `--splits` changes it; `"each"` is one per item.
    #: Default: 1.
    splits: Mapping[str, int | str] = {}
    #: Whether changes of the code that its commands reach make them stale; if not, only changes of
    #: the config do.
    has_code: bool = True
    #: The files that each command reads: paths, globs (`*`, `?`, `[ab]`, `**`) or `s3://` URIs,
    #: with `{root}` and `{config.FIELD}`. A change of their content makes the command stale.
    inputs: Mapping[str, Sequence[str]] = {}
    #: The files that each command writes, declared alike. Those of split commands may also have
    #: `{split_ind}` and `{num_splits}`. A missing one makes the command stale.
    outputs: Mapping[str, Sequence[str]] = {}
    #: The items that each split command shares out: the path of a list or tuple in the config
    #: (`"scenes"`, `"data.scenes"`), which may be a property. A method with a parameter `item` is
    #: called once for each item that is not done, one with `items` once with the list of them.
    items: Mapping[str, str] = {}
    #: Whether the commands themselves read and write files at a `root_uri` with a scheme, such as
    #: `s3://`. If not, a run on this machine refuses such a root: Python would take it for a path.
    handles_uris: bool = False
    #: The resources that each command requires of the machine that runs it.
    resources: Mapping[str, Resources] = {}

    def __init__(self, config: Any) -> None:
        self.config = config

    def count_items(self, command: str) -> int | None:
        """Return the number of items that the splits of `command` share, or None if unknown.

        Only used to warn if a plan has more splits than items.
        """
        return None


class Aligned(str):
    """The name of a command on whose split i another command's split i depends; see `aligned`."""

    __slots__ = ()


def aligned(command: str) -> Aligned:
    """Declare, in `needs`, that each split depends only on the same split of `command`."""
    return Aligned(command)


class Late(str):
    """The path of items that are read only where a command runs; see `late`."""

    __slots__ = ()


def late(path: str) -> Late:
    """Declare, in `items`, items that must not be read while a run is planned.

    For items that take long to find, or that only other machines can reach. The method gets its
    items as usual, but rvrun does not know which of them are done: a split runs as a whole.
    """
    return Late(path)


def register(name: str) -> Callable[[C], C]:
    """Decorate a config class so that saved configs of type `name` are read as this class.

    For a class that was renamed or moved: `@rvrun.register("old_module:OldName")`.
    """

    def decorate(cls: C) -> C:
        REGISTERED[name] = cls
        return cls

    return decorate


def share(items: Sequence[T], split_ind: int, num_splits: int) -> Sequence[T]:
    """Return the share of `items` that split `split_ind` of `num_splits` processes.

    - `split_ind`: counts from 0.

    Shares are contiguous and in order. Their sizes differ by at most one, larger ones first: 75
    items in 5 splits are 15 each. If there are more splits than items, the last shares are empty.
    Raises `ValueError` if `split_ind` is not in range.
    """
    if num_splits < 1:
        raise ValueError(f"num_splits must be at least 1, got {num_splits}")
    if not 0 <= split_ind < num_splits:
        raise ValueError(f"split_ind must be between 0 and {num_splits - 1}, got {split_ind}")
    size, larger = divmod(len(items), num_splits)
    start = split_ind * size + min(split_ind, larger)
    return items[start : start + size + (split_ind < larger)]
