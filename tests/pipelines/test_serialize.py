from __future__ import annotations

import enum
import json
import pathlib
import sys
from typing import Any, ClassVar, Literal

import attrs
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

import rvrun
from rvrun.errors import UserCodeError
from rvrun.pipelines import serialize
from rvrun.pipelines.imports import NoConfigClass
from rvrun.pipelines.serialize import BadConfig
from tests.conftest import Project


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Leaf(rvrun.Config):
    text: str = ""
    integer: int = 0
    number: float = 0.0
    boolean: bool = False
    maybe: int | None = None
    numbers: tuple[int, ...] = ()
    path: pathlib.Path = pathlib.Path()
    colour: Colour = Colour.RED


class Bud(Leaf):
    opens: Literal["now", "later"] = "now"


class Branch(rvrun.Config):
    first: Leaf | Branch | None = None
    leaves: tuple[Leaf, ...] = ()
    by_name: dict[str, Branch] = attrs.field(factory=dict)


class Tree(rvrun.PipelineConfig):
    trunk: Branch = Branch()
    leaf: Leaf | None = None
    pair: tuple[int, str] = (0, "")
    free: dict[str, Any] = attrs.field(factory=dict)
    kind: str = attrs.field(default="oak", validator=attrs.validators.in_(["oak", "elm"]))


class Grown(rvrun.PipelineConfig):
    """Version 1 had a field `height`, version 2 `size`, version 3 has `sizes`."""

    config_version = 3
    converted: ClassVar[list[int]] = []

    sizes: tuple[int, ...] = ()

    @classmethod
    def upgrade(cls, fields: dict[str, Any], version: int) -> dict[str, Any]:
        cls.converted.append(version)
        if version == 1:
            return {"root_uri": fields["root_uri"], "size": fields["height"]}
        return {"root_uri": fields["root_uri"], "sizes": [fields["size"]]}


class Stuck(rvrun.PipelineConfig):
    config_version = 2


class Holder(rvrun.PipelineConfig):
    held: Stuck | None = None


class Failing(rvrun.PipelineConfig):
    config_version = 2

    @classmethod
    def upgrade(cls, fields: dict[str, Any], version: int) -> dict[str, Any]:
        return {"root_uri": fields["gone"]}


@rvrun.register("tests.old:Tree")
class Renamed(rvrun.PipelineConfig):
    size: int = 1


class Numbered(rvrun.PipelineConfig):
    names: dict[int, str] = attrs.field(factory=dict)


class Anything(rvrun.PipelineConfig):
    thing: Any = None


class Opaque(rvrun.PipelineConfig):
    thing: object = None


class Named(rvrun.PipelineConfig):
    names: tuple[str, ...] = ()


leaf_fields = {
    "text": st.text(),
    "integer": st.integers(),
    "number": st.floats(allow_nan=False, allow_infinity=False),
    "boolean": st.booleans(),
    "maybe": st.none() | st.integers(),
    "numbers": st.lists(st.integers(), max_size=3).map(tuple),
    "path": st.lists(st.sampled_from(["a", "ö b", "..", "/"]), max_size=3).map(
        lambda parts: pathlib.Path(*parts)
    ),
    "colour": st.sampled_from(Colour),
}
buds = st.builds(Bud, **leaf_fields, opens=st.sampled_from(["now", "later"]))
leaves = st.builds(Leaf, **leaf_fields) | buds
branches = st.recursive(
    st.builds(Branch, first=st.none() | leaves),
    lambda inner: st.builds(
        Branch,
        first=st.none() | leaves | inner,
        leaves=st.lists(leaves, max_size=2).map(tuple),
        by_name=st.dictionaries(st.text(), inner, max_size=2),
    ),
    max_leaves=4,
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(), inner, max_size=2),
    max_leaves=4,
)
trees = st.builds(
    Tree,
    root_uri=st.text(),
    name=st.text(),
    trunk=branches,
    leaf=st.none() | leaves,
    pair=st.tuples(st.integers(), st.text()),
    free=st.dictionaries(st.text(), json_values, max_size=2),
    kind=st.sampled_from(["oak", "elm"]),
)


def saved(**fields: object) -> dict[str, object]:
    return {**serialize.config_to_json(Tree(root_uri="out")), **fields}


def refusal(values: object) -> str:
    with pytest.raises(BadConfig) as caught:
        serialize.config_from_json(values)
    return str(caught.value)


# Without shrinking, which takes minutes for configs this deep.
@given(trees)
@settings(max_examples=60, phases=[Phase.explicit, Phase.generate])
def test_any_config_survives_a_json_round_trip(config: Tree) -> None:
    """A config read from its JSON is equal, however nested, and its JSON is the same again."""
    values = serialize.config_to_json(config)
    text = json.dumps(values)
    again = serialize.config_from_json(json.loads(text))
    assert config == again
    assert text == json.dumps(serialize.config_to_json(again))
    assert text == json.dumps(serialize.check_round_trip(config))


def test_a_saved_config_has_types_and_versions() -> None:
    """Each nested config is saved with its class and version, and its fields in order."""
    config = Tree(
        root_uri="out",
        trunk=Branch(first=Bud(opens="later"), by_name={"b": Branch()}),
        leaf=Leaf(path=pathlib.Path("a/b"), numbers=(1,), colour=Colour.BLUE, number=2.5),
    )
    leaf = {
        "text": "",
        "integer": 0,
        "number": 0.0,
        "boolean": False,
        "maybe": None,
        "numbers": [],
        "path": ".",
        "colour": "red",
    }
    bud = {"$type": f"{__name__}:Bud", "$version": 1, **leaf, "opens": "later"}
    branch = {"$type": f"{__name__}:Branch", "$version": 1}
    expected = {
        "$type": f"{__name__}:Tree",
        "$version": 1,
        "root_uri": "out",
        "name": "",
        "trunk": {
            **branch,
            "first": bud,
            "leaves": [],
            "by_name": {"b": {**branch, "first": None, "leaves": [], "by_name": {}}},
        },
        "leaf": {
            "$type": f"{__name__}:Leaf",
            "$version": 1,
            **leaf,
            "number": 2.5,
            "numbers": [1],
            "path": "a/b",
            "colour": "blue",
        },
        "pair": [0, ""],
        "free": {},
        "kind": "oak",
    }
    assert json.dumps(expected) == json.dumps(serialize.config_to_json(config))


def test_an_integer_is_a_float_too() -> None:
    """`2` for a float field becomes 2.0; nothing else is coerced."""
    config = serialize.config_from_json({"$type": f"{__name__}:Leaf", "number": 2}, Leaf)
    assert repr(config.number) == "2.0"  # type: ignore[attr-defined]


def test_an_integer_in_a_float_field_is_saved_as_a_float() -> None:
    """Configs with `2` and with `2.0` in a float field have the same digest."""
    one, other = (serialize.config_to_json(Leaf(number=number)) for number in (2, 2.0))
    assert json.dumps(other) == json.dumps(one)


def test_a_nested_config_may_omit_its_type() -> None:
    """A nested config without `$type` has the field's own class."""
    config = serialize.config_from_json(saved(leaf={"integer": 3}))
    assert Leaf(integer=3) == config.leaf  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"root_uri": 1}, "1 is not a string at root_uri"),
        ({"root_uri": None}, "None is not a string at root_uri"),
        ({"leaf": {"boolean": "false"}}, "'false' is not a boolean at leaf.boolean"),
        ({"leaf": {"boolean": 0}}, "0 is not a boolean at leaf.boolean"),
        ({"leaf": {"integer": "1"}}, "'1' is not an integer at leaf.integer"),
        ({"leaf": {"integer": 1.0}}, "1.0 is not an integer at leaf.integer"),
        ({"leaf": {"integer": True}}, "True is not an integer at leaf.integer"),
        ({"leaf": {"number": "1.0"}}, "'1.0' is not a number at leaf.number"),
        ({"leaf": {"number": True}}, "True is not a number at leaf.number"),
        ({"leaf": {"colour": "green"}}, "'green' is not a valid Colour at leaf.colour"),
        ({"leaf": {"numbers": [1, "2"]}}, "'2' is not an integer at leaf.numbers[1]"),
        ({"leaf": 5}, "5 is not a config of type Leaf at leaf"),
        ({"trunk": None}, "None is not a config of type Branch at trunk"),
        (
            {"trunk": {"by_name": {"b": {"leaves": [{}, {"integer": ""}]}}}},
            "'' is not an integer at trunk.by_name['b'].leaves[1].integer",
        ),
        (
            {"root_uri": 1, "leaf": {"integer": ""}},
            "1 is not a string at root_uri; '' is not an integer at leaf.integer",
        ),
        (
            {"leaf": {"$version": 2}},
            (
                f"saved config of type `{__name__}:Leaf`: "
                "`$version` must be between 1 and 1, got 2 at leaf"
            ),
        ),
    ],
)
def test_a_wrong_value_is_named(fields: dict[str, object], problem: str) -> None:
    """The error names each wrong value and its place; none is coerced."""
    expected = f"saved config of type `{__name__}:Tree`: {problem}"
    assert expected == refusal(saved(**fields))


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"rot_uri": 1}, "unknown field `rot_uri` (did you mean `root_uri`?)"),
        ({"b": 1, "a": 2}, "unknown field `a`, unknown field `b`"),
        ({"leaf": {"txt": ""}}, "unknown field `txt` (did you mean `text`?) at leaf"),
    ],
)
def test_unknown_fields_are_named(fields: dict[str, object], problem: str) -> None:
    """A field that the class does not have is an error that names it."""
    expected = f"saved config of type `{__name__}:Tree`: {problem}"
    assert expected == refusal(saved(**fields))


def test_a_missing_field_is_named() -> None:
    """A field without a default must be saved; the error names it once."""
    expected = f"saved config of type `{__name__}:Tree`: field `root_uri` is missing"
    assert expected == refusal({"$type": f"{__name__}:Tree"})


def test_a_string_is_not_a_list() -> None:
    """A string for a tuple of strings is refused, not split into characters."""
    values = {"$type": f"{__name__}:Named", "root_uri": "out", "names": "red"}
    expected = f"saved config of type `{__name__}:Named`: 'red' is not a list at names"
    assert expected == refusal(values)


def test_messages_of_validators_are_shown() -> None:
    """Of the errors of attrs' validators, only the sentence is shown."""
    expected = (
        f"saved config of type `{__name__}:Tree`: `Tree.kind` must be in ['oak', 'elm'], got 'ash'"
    )
    assert expected == refusal(saved(kind="ash"))


@pytest.mark.parametrize("values", [None, [], 5, "tests:Tree"])
def test_other_json_values_are_refused(values: object) -> None:
    """A value that is not a JSON object raises `BadConfig`, too."""
    assert f"saved config {values!r}: {values!r} is not a config of type PipelineConfig" == refusal(
        values
    )


@pytest.mark.parametrize("type_name", ["subprocess:Popen", "os:system", "rvrun:Pipeline"])
def test_only_configs_are_created(type_name: str) -> None:
    """A file that names another class creates nothing, at the top or nested."""
    values = {"$type": type_name, "args": ["true"]}
    with pytest.raises(NoConfigClass) as caught:
        serialize.config_from_json(values)
    expected = f"saved config of type {type_name!r}: it is not a subclass of PipelineConfig"
    assert expected == str(caught.value)
    place = f"saved config of type `{__name__}:Tree`"
    problem = f"saved config of type {type_name!r}: it is not a subclass of Leaf at leaf"
    assert f"{place}: {problem}" == refusal(saved(leaf=values))
    # In a field of type Any it remains a dictionary.
    config = serialize.config_from_json(saved(free={"value": values}))
    assert {"value": values} == config.free  # type: ignore[attr-defined]


def test_a_nested_config_must_have_the_fields_class() -> None:
    """Its type must be the field's class or a subclass of it."""
    problem = f"saved config of type '{__name__}:Branch': it is not a subclass of Leaf at leaf"
    expected = f"saved config of type `{__name__}:Tree`: {problem}"
    assert expected == refusal(saved(leaf={"$type": f"{__name__}:Branch"}))


@pytest.mark.parametrize(
    ("first", "problem"),
    [
        (
            {"$type": f"{__name__}:Tree"},
            (
                f"type `{__name__}:Tree` is not one of "
                f"{__name__}.Leaf | {__name__}.Branch | None at trunk.first"
            ),
        ),
        (
            {"$type": "os:system"},
            "saved config of type 'os:system': it is not a subclass of Config at trunk.first",
        ),
        (
            {"text": ""},
            (
                "saved config of type None: `$type` must be a string such as `module:Class` "
                "at trunk.first"
            ),
        ),
    ],
)
def test_a_union_accepts_only_its_members(first: dict[str, object], problem: str) -> None:
    """In a union of configs `$type` is required, and must be one of them or a subclass."""
    expected = f"saved config of type `{__name__}:Tree`: {problem}"
    assert expected == refusal(saved(trunk={"first": first}))


def test_a_registered_name_is_read_as_its_class() -> None:
    """A config saved by a class that has moved is read, and is saved under its new name."""
    config = serialize.config_from_json({"$type": "tests.old:Tree", "root_uri": "out", "size": 2})
    assert Renamed(root_uri="out", size=2) == config
    assert f"{__name__}:Renamed" == serialize.config_to_json(config)["$type"]


@pytest.mark.parametrize(
    ("version", "fields", "converted"),
    [
        (1, {"height": 7}, [1, 2]),
        (2, {"size": 7}, [2]),
        (3, {"sizes": [7]}, []),
    ],
)
def test_an_older_config_is_upgraded_version_by_version(
    version: int, fields: dict[str, object], converted: list[int]
) -> None:
    """`upgrade` is called once for each version, from the saved one on."""
    Grown.converted.clear()
    values = {"$type": f"{__name__}:Grown", "$version": version, "root_uri": "out", **fields}
    assert Grown(root_uri="out", sizes=(7,)) == serialize.config_from_json(values)
    assert converted == Grown.converted


@pytest.mark.parametrize("version", [0, -1, 4, "3", 3.0, None, True])
def test_an_unknown_version_is_refused(version: object) -> None:
    """The error names the versions that the class can read."""
    values = {"$type": f"{__name__}:Grown", "$version": version, "root_uri": "out", "height": 1}
    place = f"saved config of type `{__name__}:Grown`"
    assert f"{place}: `$version` must be between 1 and 3, got {version!r}" == refusal(values)


def test_a_missing_upgrade_is_a_user_code_error() -> None:
    """The error names the class that increased its version without an `upgrade`."""
    with pytest.raises(UserCodeError) as caught:
        serialize.config_from_json({"$type": f"{__name__}:Stuck", "$version": 1, "root_uri": "out"})
    expected = (
        "`Stuck.upgrade` from version 1 raised NotImplementedError: "
        "Stuck has config_version 2, but its `upgrade` does not convert version 1"
    )
    assert expected == str(caught.value)


def test_a_failing_upgrade_is_a_user_code_error() -> None:
    """What `upgrade` raised is the cause."""
    values = {"$type": f"{__name__}:Failing", "$version": 1, "root_uri": "out"}
    with pytest.raises(UserCodeError) as caught:
        serialize.config_from_json(values)
    assert str(caught.value) == "`Failing.upgrade` from version 1 raised KeyError: 'gone'"
    assert isinstance(caught.value.__cause__, KeyError)


def test_nested_configs_are_upgraded_too() -> None:
    """Each nested config has its own version; an error names the place."""
    held = {"$type": f"{__name__}:Stuck", "$version": 1, "root_uri": "out"}
    expected = (
        f"saved config of type `{__name__}:Holder`: "
        "`Stuck.upgrade` from version 1 raised NotImplementedError: "
        "Stuck has config_version 2, but its `upgrade` does not convert version 1 at held"
    )
    values = {"$type": f"{__name__}:Holder", "root_uri": "out", "held": held}
    assert expected == refusal(values)


def test_a_config_that_cannot_be_saved_is_refused() -> None:
    """A value that JSON cannot represent is an error that names the class."""
    with pytest.raises(BadConfig) as caught:
        serialize.check_round_trip(Opaque(root_uri="out", thing={1, 2}.add))
    expected = (
        "config class Opaque: field `thing` cannot be saved as JSON: "
        "Object of type builtin_function_or_method is not JSON serializable"
    )
    assert expected == str(caught.value)


def test_a_config_that_cannot_be_read_again_is_refused() -> None:
    """A value whose field does not tell its type cannot be read."""
    with pytest.raises(BadConfig):
        serialize.check_round_trip(Opaque(root_uri="out", thing=(1, 2)))


def test_a_config_that_json_changes_is_refused() -> None:
    """A tuple in a field of type Any would become a list."""
    config = Anything(root_uri="out", thing=(1, 2))
    with pytest.raises(BadConfig) as caught:
        serialize.check_round_trip(config)
    expected = (
        "config class Anything: does not survive a JSON round trip: "
        "Anything(root_uri='out', name='', thing=(1, 2)) becomes "
        "Anything(root_uri='out', name='', thing=[1, 2])"
    )
    assert expected == str(caught.value)


def test_keys_that_are_not_strings_survive_or_are_refused() -> None:
    """A config that passes the check is equal after it was written to a file and read."""
    config = Numbered(root_uri="out", names={1: "a"})
    try:
        values = serialize.check_round_trip(config)
    except BadConfig:
        return
    assert config == serialize.config_from_json(json.loads(json.dumps(values)))


def test_a_set_is_saved_in_sorted_order(project: Project) -> None:
    """The same config has the same digest in every process, regardless of Python's hash seed."""
    project.write(
        "main.py",
        "import rvrun\n"
        "from rvrun.pipelines.serialize import config_to_json, digest\n"
        "class Tagged(rvrun.Config):\n    tags: frozenset[str] = frozenset()\n"
        "tags = frozenset(f'tag-{i}' for i in range(9))\n"
        "print(digest(config_to_json(Tagged(tags=tags))))\n",
    )
    seeds = ("1", "2")
    runs = [project.run(sys.executable, "main.py", PYTHONHASHSEED=seed) for seed in seeds]
    assert runs[0].stdout == runs[1].stdout


def test_the_digest_does_not_depend_on_the_order_of_keys() -> None:
    """A digest depends on the values alone, and is the same on every machine."""
    expected = "sha256:efe5c7dd072712e720a31d198a72a292166e705b5980e76c02738bf21dbd5d7a"
    one = serialize.digest({"a": 1, "b": ["ä", None]})
    assert one == serialize.digest({"b": ["ä", None], "a": 1})
    assert one != serialize.digest({"a": 1, "b": [None, "ä"]})
    assert expected == one
