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
    whole: int = 0
    real: float = 0.0
    truth: bool = False
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
    """At version 1 it had `height`, at version 2 `size`, at version 3 `sizes`."""

    config_version = 3
    lifted: ClassVar[list[int]] = []

    sizes: tuple[int, ...] = ()

    @classmethod
    def upgrade(cls, fields: dict[str, Any], version: int) -> dict[str, Any]:
        cls.lifted.append(version)
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


class Opaque(rvrun.PipelineConfig):
    thing: object = None


class Named(rvrun.PipelineConfig):
    names: tuple[str, ...] = ()


leaf_fields = {
    "text": st.text(),
    "whole": st.integers(),
    "real": st.floats(allow_nan=False, allow_infinity=False),
    "truth": st.booleans(),
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


# Without shrinking, which takes minutes for such deep configs.
@given(trees)
@settings(max_examples=60, phases=[Phase.explicit, Phase.generate])
def test_any_config_survives_json(config: Tree) -> None:
    """However nested, a config read from its JSON text is the same, and is saved the same."""
    values = serialize.config_to_json(config)
    text = json.dumps(values)
    again = serialize.config_from_json(json.loads(text))
    assert config == again
    assert text == json.dumps(serialize.config_to_json(again))
    assert text == json.dumps(serialize.check_round_trip(config))


def test_a_saved_config_says_types_and_versions() -> None:
    """Each config is saved with its own class and version, fields in their order."""
    config = Tree(
        root_uri="out",
        trunk=Branch(first=Bud(opens="later"), by_name={"b": Branch()}),
        leaf=Leaf(path=pathlib.Path("a/b"), numbers=(1,), colour=Colour.BLUE, real=2.5),
    )
    leaf = {
        "text": "",
        "whole": 0,
        "real": 0.0,
        "truth": False,
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
            "real": 2.5,
            "numbers": [1],
            "path": "a/b",
            "colour": "blue",
        },
        "pair": [0, ""],
        "free": {},
        "kind": "oak",
    }
    assert json.dumps(expected) == json.dumps(serialize.config_to_json(config))


def test_a_whole_number_is_a_float_too() -> None:
    """`2` for a float field becomes 2.0; nothing else is coerced."""
    config = serialize.config_from_json({"$type": f"{__name__}:Leaf", "real": 2}, Leaf)
    assert repr(config.real) == "2.0"  # type: ignore[attr-defined]


def test_a_whole_number_is_saved_as_the_float_it_is() -> None:
    """A config given `2` for a float is saved as when it was given 2.0: digests are the same."""
    one, other = (serialize.config_to_json(Leaf(real=real)) for real in (2, 2.0))
    assert json.dumps(other) == json.dumps(one)


def test_the_type_may_be_left_out_where_it_is_clear() -> None:
    """A nested config without `$type` is one of the field's own class."""
    config = serialize.config_from_json(saved(leaf={"whole": 3}))
    assert Leaf(whole=3) == config.leaf  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"root_uri": 1}, "1 is no str at root_uri"),
        ({"root_uri": None}, "None is no str at root_uri"),
        ({"leaf": {"truth": "false"}}, "'false' is no bool at leaf.truth"),
        ({"leaf": {"truth": 0}}, "0 is no bool at leaf.truth"),
        ({"leaf": {"whole": "1"}}, "'1' is no int at leaf.whole"),
        ({"leaf": {"whole": 1.0}}, "1.0 is no int at leaf.whole"),
        ({"leaf": {"whole": True}}, "True is no int at leaf.whole"),
        ({"leaf": {"real": "1.0"}}, "'1.0' is no float at leaf.real"),
        ({"leaf": {"real": True}}, "True is no float at leaf.real"),
        ({"leaf": {"colour": "green"}}, "'green' is not a valid Colour at leaf.colour"),
        ({"leaf": {"numbers": [1, "2"]}}, "'2' is no int at leaf.numbers[1]"),
        ({"leaf": 5}, "5 is no Leaf at leaf"),
        ({"trunk": None}, "None is no Branch at trunk"),
        (
            {"trunk": {"by_name": {"b": {"leaves": [{}, {"whole": ""}]}}}},
            "'' is no int at trunk.by_name['b'].leaves[1].whole",
        ),
        (
            {"root_uri": 1, "leaf": {"whole": ""}},
            "1 is no str at root_uri; '' is no int at leaf.whole",
        ),
        (
            {"leaf": {"$version": 2}},
            f"saved config of type `{__name__}:Leaf`: version 2; `Leaf` knows 1 to 1 at leaf",
        ),
    ],
)
def test_a_value_that_does_not_fit_is_named(fields: dict[str, object], problem: str) -> None:
    """Each wrong value is told with its place; none is coerced."""
    expected = f"saved config of type `{__name__}:Tree`: {problem}"
    assert expected == refusal(saved(**fields))


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"rot_uri": 1}, "unknown fields: `rot_uri`"),
        ({"b": 1, "a": 2}, "unknown fields: `a`, `b`"),
        ({"leaf": {"txt": ""}}, "unknown fields: `txt` at leaf"),
    ],
)
def test_unknown_fields_are_named(fields: dict[str, object], problem: str) -> None:
    """A field that the class does not have is an error, in words of configs."""
    expected = f"saved config of type `{__name__}:Tree`: {problem}"
    assert expected == refusal(saved(**fields))


def test_a_missing_field_is_named() -> None:
    """A field without default must be saved; it is named once."""
    expected = f"saved config of type `{__name__}:Tree`: field `root_uri` is missing"
    assert expected == refusal({"$type": f"{__name__}:Tree"})


def test_a_text_is_no_list() -> None:
    """A text for a tuple of texts is refused, not taken apart into letters."""
    values = {"$type": f"{__name__}:Named", "root_uri": "out", "names": "red"}
    expected = f"saved config of type `{__name__}:Named`: 'red' is no list at names"
    assert expected == refusal(values)


def test_what_validators_say_is_told() -> None:
    """The message of attrs' own validators is given without the rest of what they raise."""
    expected = (
        f"saved config of type `{__name__}:Tree`: 'kind' must be in ['oak', 'elm'] (got 'ash')"
    )
    assert expected == refusal(saved(kind="ash"))


@pytest.mark.parametrize("values", [None, [], 5, "tests:Tree"])
def test_what_is_no_saved_config_is_refused(values: object) -> None:
    """A value that is no object is a `BadConfig` like all others."""
    assert f"saved config {values!r}: {values!r} is no PipelineConfig" == refusal(values)


@pytest.mark.parametrize("type_name", ["subprocess:Popen", "os:system", "rvrun:Pipeline"])
def test_only_configs_are_made(type_name: str) -> None:
    """A file that names something else makes nothing, at the top or nested."""
    values = {"$type": type_name, "args": ["true"]}
    with pytest.raises(NoConfigClass) as caught:
        serialize.config_from_json(values)
    expected = f"saved config of type {type_name!r}: it is no PipelineConfig"
    assert expected == str(caught.value)
    place = f"saved config of type `{__name__}:Tree`"
    problem = f"saved config of type {type_name!r}: it is no Leaf at leaf"
    assert f"{place}: {problem}" == refusal(saved(leaf=values))
    # In a field of any type it stays the JSON object that it is.
    config = serialize.config_from_json(saved(free={"value": values}))
    assert {"value": values} == config.free  # type: ignore[attr-defined]


def test_a_config_of_another_class_is_refused_in_a_field() -> None:
    """A nested type must be the field's class or a subclass of it."""
    problem = f"saved config of type '{__name__}:Branch': it is no Leaf at leaf"
    expected = f"saved config of type `{__name__}:Tree`: {problem}"
    assert expected == refusal(saved(leaf={"$type": f"{__name__}:Branch"}))


@pytest.mark.parametrize(
    ("first", "problem"),
    [
        (
            {"$type": f"{__name__}:Tree"},
            (
                f"type `{__name__}:Tree` is none of "
                f"{__name__}.Leaf | {__name__}.Branch | None at trunk.first"
            ),
        ),
        (
            {"$type": "os:system"},
            "saved config of type 'os:system': it is no Config at trunk.first",
        ),
        (
            {"text": ""},
            (
                "saved config of type None: `$type` must be a text such as `module:Class` "
                "at trunk.first"
            ),
        ),
    ],
)
def test_a_union_takes_its_members_only(first: dict[str, object], problem: str) -> None:
    """In a union of configs the type must be said, and be one of them or a subclass."""
    expected = f"saved config of type `{__name__}:Tree`: {problem}"
    assert expected == refusal(saved(trunk={"first": first}))


def test_a_registered_name_is_read_as_its_class() -> None:
    """A config saved by a class that has moved is read, and saved under its new name."""
    config = serialize.config_from_json({"$type": "tests.old:Tree", "root_uri": "out", "size": 2})
    assert Renamed(root_uri="out", size=2) == config
    assert f"{__name__}:Renamed" == serialize.config_to_json(config)["$type"]


@pytest.mark.parametrize(
    ("version", "fields", "lifted"),
    [
        (1, {"height": 7}, [1, 2]),
        (2, {"size": 7}, [2]),
        (3, {"sizes": [7]}, []),
    ],
)
def test_an_older_config_is_lifted_version_by_version(
    version: int, fields: dict[str, object], lifted: list[int]
) -> None:
    """`upgrade` is called once for each version from the saved one on."""
    Grown.lifted.clear()
    values = {"$type": f"{__name__}:Grown", "$version": version, "root_uri": "out", **fields}
    assert Grown(root_uri="out", sizes=(7,)) == serialize.config_from_json(values)
    assert lifted == Grown.lifted


@pytest.mark.parametrize("version", [0, -1, 4, "3", 3.0, None, True])
def test_a_version_not_known_is_refused(version: object) -> None:
    """A newer version, or what is none, is told with the versions that are known."""
    values = {"$type": f"{__name__}:Grown", "$version": version, "root_uri": "out", "height": 1}
    place = f"saved config of type `{__name__}:Grown`"
    assert f"{place}: version {version!r}; `Grown` knows 1 to 3" == refusal(values)


def test_a_missing_upgrade_is_told() -> None:
    """A class that raised its version without `upgrade` is named."""
    with pytest.raises(UserCodeError) as caught:
        serialize.config_from_json({"$type": f"{__name__}:Stuck", "$version": 1, "root_uri": "out"})
    expected = (
        "`Stuck.upgrade` from version 1 raised NotImplementedError: "
        "Stuck has config_version 2 but no `upgrade` that lifts version 1"
    )
    assert expected == str(caught.value)


def test_a_failing_upgrade_is_the_users_error() -> None:
    """What `upgrade` raises is the cause."""
    values = {"$type": f"{__name__}:Failing", "$version": 1, "root_uri": "out"}
    with pytest.raises(UserCodeError) as caught:
        serialize.config_from_json(values)
    assert str(caught.value) == "`Failing.upgrade` from version 1 raised KeyError: 'gone'"
    assert isinstance(caught.value.__cause__, KeyError)


def test_nested_configs_are_lifted_too() -> None:
    """Each nested config has its own version; the place of a failure is told."""
    held = {"$type": f"{__name__}:Stuck", "$version": 1, "root_uri": "out"}
    expected = (
        f"saved config of type `{__name__}:Holder`: "
        "`Stuck.upgrade` from version 1 raised NotImplementedError: "
        "Stuck has config_version 2 but no `upgrade` that lifts version 1 at held"
    )
    values = {"$type": f"{__name__}:Holder", "root_uri": "out", "held": held}
    assert expected == refusal(values)


def test_a_config_that_cannot_be_saved_is_refused() -> None:
    """A value that JSON does not have is told with the class."""
    with pytest.raises(BadConfig) as caught:
        serialize.check_round_trip(Opaque(root_uri="out", thing={1, 2}.add))
    expected = (
        "config class Opaque: cannot be saved as JSON: "
        "Object of type builtin_function_or_method is not JSON serializable"
    )
    assert expected == str(caught.value)


def test_a_config_that_comes_back_changed_is_refused() -> None:
    """What JSON text would change, such as a tuple in a field of any type, is refused."""
    with pytest.raises(BadConfig):
        serialize.check_round_trip(Opaque(root_uri="out", thing=(1, 2)))


def test_keys_that_are_no_texts_come_back_or_are_refused() -> None:
    """What passes the check is the same config once it was a text, as files hold it."""
    config = Numbered(root_uri="out", names={1: "a"})
    try:
        values = serialize.check_round_trip(config)
    except BadConfig:
        return
    assert config == serialize.config_from_json(json.loads(json.dumps(values)))


def test_a_set_is_saved_in_one_order(project: Project) -> None:
    """The same config has the same digest in every process, whatever Python's hash seed."""
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


def test_the_digest_is_blind_to_the_order_of_keys() -> None:
    """A digest is of the values alone, and the same on every machine."""
    expected = "sha256:efe5c7dd072712e720a31d198a72a292166e705b5980e76c02738bf21dbd5d7a"
    one = serialize.digest({"a": 1, "b": ["ä", None]})
    assert one == serialize.digest({"b": ["ä", None], "a": 1})
    assert one != serialize.digest({"a": 1, "b": [None, "ä"]})
    assert expected == one
