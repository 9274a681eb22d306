from __future__ import annotations

import copy
import pickle
import sys
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rvrun
from rvrun.pipelines.base import REGISTERED, Aligned, own_annotations
from tests.conftest import Project


class Scene(rvrun.Config):
    image: str
    bands: tuple[int, ...] = (0, 1, 2)


class Labelled(Scene):
    labels: str = ""


class Dataset(rvrun.Config):
    scenes: tuple[Scene, ...] = ()
    test: Scene | None = None


class Rival(rvrun.Config):
    image: str
    bands: tuple[int, ...] = (0, 1, 2)


class Checked(rvrun.Config):
    size: int = attrs.field(default=1, validator=attrs.validators.ge(1))
    step: int = attrs.field(default=1, converter=int)

    # mypy only supports this decorator, and `evolve`, where attrs decorates the class.
    @size.validator  # type: ignore[attr-defined, untyped-decorator]
    def _fits(self, attribute: attrs.Attribute[int], value: int) -> None:
        if value % self.step:
            raise ValueError(f"size {value} is not a multiple of {self.step}")


class Finished(rvrun.Config):
    first: int = 0
    last: int = 0

    def __attrs_post_init__(self) -> None:
        if self.last < self.first:
            raise ValueError("last is before first")


@attrs.frozen(kw_only=True)
class Explicit(rvrun.Config):
    rate: float = 0.1


class MoreExplicit(Explicit):
    decay: float = 0.0


@rvrun.register("tests.old:Renamed")
class Renamed(rvrun.Config):
    size: int = 1


def test_a_config_class_is_defined_without_attrs_and_typing(project: Project) -> None:
    """Importing rvrun and defining a config imports neither attrs nor typing; creating one does."""
    code = """
import sys
before = set(sys.modules)
import rvrun
class Scene(rvrun.Config):
    image: str
    bands: tuple[int, ...] = (0, 1, 2)
class Words(rvrun.Pipeline):
    commands = ("chip",)
    needs = {"chip": [rvrun.aligned("cut")]}
print(sorted({"attr", "attrs", "typing", "typeguard"} & (set(sys.modules) - before)))
print(Scene(image="a"), "attrs" in sys.modules)
"""
    expected = "[]\nScene(image='a', bands=(0, 1, 2)) True\n"
    assert expected == project.run(sys.executable, "-c", code).stdout


def test_resources_are_an_attribute_of_rvrun() -> None:
    """`rvrun.Resources` is imported on first use; an unknown name is an AttributeError."""
    assert rvrun.Resources(gpus=2).gpus == 2
    with pytest.raises(AttributeError) as caught:
        _ = rvrun.Resource  # type: ignore[attr-defined]
    assert str(caught.value) == "module `rvrun` has no attribute `Resource`"


def test_fields_are_passed_by_keyword() -> None:
    """Positional values are refused; omitted fields get their defaults."""
    assert (Scene(image="a").image, Scene(image="a").bands) == ("a", (0, 1, 2))
    with pytest.raises(TypeError) as caught:
        Scene("a")  # type: ignore[call-arg]
    expected = "Scene.__init__() takes 1 positional argument but 2 were given"
    assert expected == str(caught.value)


def test_a_missing_field_is_named() -> None:
    """A field without a default is required."""
    with pytest.raises(TypeError) as caught:
        Scene()  # type: ignore[call-arg]
    expected = "Scene.__init__() missing 1 required keyword-only argument: 'image'"
    assert expected == str(caught.value)


@pytest.mark.parametrize(
    ("cls", "fields", "message"),
    [
        (Scene, {"image": 5}, "Scene.image = 5: int is not an instance of str"),
        (
            Scene,
            {"image": "a", "bands": (0, 1, "2")},
            "Scene.bands = (0, 1, '2'): item 2 of tuple is not an instance of int",
        ),
        (
            Labelled,
            {"image": None},
            "Labelled.image = None: None is not an instance of str",
        ),
        (
            Dataset,
            {"scenes": (Scene(image="a"), Rival(image="b"))},
            (
                "Dataset.scenes = (Scene(image='a', bands=(0, 1, 2)), "
                "Rival(image='b', bands=(0, 1, 2))): "
                "item 1 of tuple is not an instance of tests.pipelines.test_base.Scene"
            ),
        ),
    ],
)
def test_values_must_have_their_fields_types(
    cls: type[rvrun.Config], fields: dict[str, object], message: str
) -> None:
    """A value of a wrong type is refused on construction; the error names class and field."""
    with pytest.raises(TypeError) as caught:
        cls(**fields)
    assert message == str(caught.value)


def test_a_config_is_frozen() -> None:
    """Fields can be neither set, deleted nor added."""
    scene = Scene(image="a")
    for name in ("image", "other"):
        with pytest.raises(AttributeError):
            setattr(scene, name, "b")
    with pytest.raises(AttributeError):
        del scene.image
    assert Scene(image="a") == scene


def test_the_error_of_a_frozen_config_names_class_and_field() -> None:
    """The message is Config's own, even after attrs has processed the class."""
    scene = Scene(image="a")
    with pytest.raises(AttributeError) as caught:
        scene.image = "b"  # type: ignore[misc]
    assert str(caught.value) == "Scene is frozen: `image` cannot be set"
    with pytest.raises(AttributeError) as caught:
        del scene.image
    assert str(caught.value) == "Scene is frozen: `image` cannot be deleted"


def test_equality_compares_class_and_values() -> None:
    """Configs are equal if their class and all fields are; a subclass is a different class."""
    assert Scene(image="a") == Scene(image="a", bands=(0, 1, 2))
    assert Scene(image="a") != Scene(image="b")
    assert Scene(image="a") != Rival(image="a")
    assert Scene(image="a") != Labelled(image="a")
    assert Scene(image="a") != "a"


def test_equal_configs_have_equal_hashes() -> None:
    """The order in which fields are passed does not matter."""
    same = {Scene(image="a", bands=(1,)), Scene(bands=(1,), image="a")}
    assert {Scene(image="a", bands=(1,))} == same
    assert len({Scene(image="a"), Rival(image="a"), Labelled(image="a")}) == 3


def test_the_repr_is_valid_code() -> None:
    """The repr of a nested config evaluates to an equal config."""
    data = Dataset(scenes=(Scene(image="a"),), test=Labelled(image="b", labels="l"))
    expected = (
        "Dataset(scenes=(Scene(image='a', bands=(0, 1, 2)),), "
        "test=Labelled(image='b', bands=(0, 1, 2), labels='l'))"
    )
    assert expected == repr(data)
    assert data == eval(expected)


def test_validators_and_converters_work() -> None:
    """`attrs.field` keeps its validator and converter; types are checked before validators."""
    assert Checked(size=6, step="3").step * 2 == 6  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"^`Checked.size` must be >= 1, got 0$"):
        Checked(size=0)
    with pytest.raises(ValueError, match=r"^size 5 is not a multiple of 3$"):
        Checked(size=5, step=3)
    with pytest.raises(TypeError, match=r"^Checked.size = 'x': str is not an instance of int$"):
        Checked(size="x")  # type: ignore[arg-type]


def test_post_init_runs_on_the_complete_config() -> None:
    """`__attrs_post_init__` can check fields against each other."""
    with pytest.raises(ValueError, match=r"^last is before first$"):
        Finished(first=2, last=1)


def test_a_default_can_be_overridden_in_a_subclass() -> None:
    """A field that a subclass declares again has the new default."""

    class Narrow(Scene):
        bands: tuple[int, ...] = (0,)

    assert Narrow(image="a").bands == (0,)
    assert "image" in {field.name for field in attrs.fields(Narrow)}


def test_an_explicit_attrs_class_works() -> None:
    """Users may also decorate a config with `attrs.frozen`."""
    assert (Explicit().rate, Explicit(rate=0.5).rate) == (0.1, 0.5)
    assert Explicit() == Explicit(rate=0.1)
    assert repr(Explicit()) == "Explicit(rate=0.1)"
    assert Explicit(rate=0.5) == attrs.evolve(Explicit(), rate=0.5)


def test_a_subclass_of_an_explicit_attrs_class_compares_all_its_fields() -> None:
    """Fields that a plain subclass adds to an `attrs.frozen` config count in equality and repr."""
    assert MoreExplicit(decay=1.0) == MoreExplicit(decay=1.0)
    assert repr(MoreExplicit(decay=1.0)) == "MoreExplicit(rate=0.1, decay=1.0)"
    assert MoreExplicit(decay=1.0) != MoreExplicit(decay=2.0)


@pytest.mark.skipif(sys.version_info < (3, 14), reason="annotations are not lazy")
def test_a_config_may_refer_to_itself() -> None:
    """Annotations that Python evaluates lazily may name a class that does not exist yet."""
    names: dict[str, Any] = {"rvrun": rvrun, "__name__": __name__}
    code = "class Node(rvrun.Config):\n    size: int = 0\n    child: Node | None = None\n"
    exec(compile(code, "node.py", "exec", dont_inherit=True), names)
    assert list(own_annotations(names["Node"])) == ["size", "child"]


def test_attrs_functions_work_on_configs() -> None:
    """`attrs.has`, `fields`, `evolve` and `asdict` accept configs, even of unused classes."""

    class Fresh(Scene):
        extra: int = 0

    assert attrs.has(Fresh)
    assert [field.name for field in attrs.fields(Fresh)] == ["image", "bands", "extra"]
    assert Scene(image="b") == attrs.evolve(Scene(image="a"), image="b")  # type: ignore[misc]
    assert attrs.asdict(Scene(image="a")) == {"image": "a", "bands": (0, 1, 2)}
    with pytest.raises(TypeError, match=r"^Scene.image = 1: int is not an instance of str$"):
        attrs.evolve(Scene(image="a"), image=1)  # type: ignore[misc]


def test_configs_can_be_copied_and_pickled() -> None:
    """A config survives copy, deepcopy and pickle."""
    data = Dataset(scenes=(Scene(image="a"),))
    assert [data] * 3 == [copy.copy(data), copy.deepcopy(data), pickle.loads(pickle.dumps(data))]


def test_a_pipeline_config_has_a_root_and_a_name() -> None:
    """`PipelineConfig` itself has nothing to build, and says so."""
    config = rvrun.PipelineConfig(root_uri="out")
    assert (config.root_uri, config.name) == ("out", "")
    with pytest.raises(NotImplementedError, match=r"^PipelineConfig must define a method `build`$"):
        config.build()


def test_the_default_upgrade_raises() -> None:
    """Its message names the class and the version that it does not convert."""
    with pytest.raises(NotImplementedError) as caught:
        Scene.upgrade({}, 1)
    expected = "Scene has config_version 1, but its `upgrade` does not convert version 1"
    assert expected == str(caught.value)


def test_a_pipeline_declares_nothing_by_default() -> None:
    """It keeps its config, has no commands, and does not know how many items there are."""
    pipeline = rvrun.Pipeline(Scene(image="a"))
    assert Scene(image="a") == pipeline.config
    assert (pipeline.commands, pipeline.split_commands, pipeline.gpu_commands) == ((), (), ())
    assert pipeline.count_items("chip") is None


def test_aligned_returns_the_name() -> None:
    """`aligned` returns a string equal to the name, but of a type of its own."""
    assert rvrun.aligned("chip") == "chip"
    assert isinstance(rvrun.aligned("chip"), Aligned)


def test_register_returns_the_class() -> None:
    """`register` adds the class under the name, and returns it unchanged."""
    assert Renamed is REGISTERED["tests.old:Renamed"]
    assert Renamed(size=2).size == 2


@given(st.integers(0, 200), st.integers(1, 40))
def test_shares_are_contiguous_ordered_and_complete(num_items: int, num_splits: int) -> None:
    """Concatenated, the shares are the items."""
    items = range(num_items)
    shares = [rvrun.share(items, i, num_splits) for i in range(num_splits)]
    assert list(items) == [item for share in shares for item in share]


@given(st.lists(st.text(), max_size=60), st.integers(1, 40))
def test_sizes_differ_by_at_most_one_the_larger_first(items: list[str], num_splits: int) -> None:
    """Sizes never increase, and decrease by at most one in total."""
    sizes = [len(rvrun.share(items, i, num_splits)) for i in range(num_splits)]
    assert sorted(sizes, reverse=True) == sizes
    assert max(sizes) - min(sizes) <= 1


def test_75_items_in_5_splits_are_15_each() -> None:
    """The example in the docstring."""
    expected = [range(15), range(15, 30), range(30, 45), range(45, 60), range(60, 75)]
    assert expected == [rvrun.share(range(75), i, 5) for i in range(5)]


def test_shares_beyond_the_items_are_empty() -> None:
    """If there are more splits than items, the last ones have nothing to do."""
    assert [rvrun.share(["a", "b"], i, 4) for i in range(4)] == [["a"], ["b"], [], []]
    assert rvrun.share("", 0, 1) == ""


@pytest.mark.parametrize(
    ("split_ind", "num_splits", "message"),
    [
        (0, 0, "num_splits must be at least 1, got 0"),
        (0, -1, "num_splits must be at least 1, got -1"),
        (4, 4, "split_ind must be between 0 and 3, got 4"),
        (-1, 4, "split_ind must be between 0 and 3, got -1"),
    ],
)
def test_a_share_out_of_range_is_refused(split_ind: int, num_splits: int, message: str) -> None:
    """An index out of range is an error, not an empty share."""
    with pytest.raises(ValueError, match=f"^{message}$"):
        rvrun.share([1, 2], split_ind, num_splits)


def test_a_new_default_requires_an_annotation() -> None:
    """`attrs` would ignore a new default of a field without its annotation, so it is refused."""
    with pytest.raises(TypeError) as raised:
        type("Named", (rvrun.PipelineConfig,), {"name": "x", "__module__": __name__})
    expected = "`Named.name` overrides a field; annotate it: `name: TYPE = ...`"
    assert str(raised.value) == expected
