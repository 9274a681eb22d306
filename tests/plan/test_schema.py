"""The schema of plan.json, held against what rvrun writes and what it reads; its documentation."""

from __future__ import annotations

import getpass
import itertools
import json
import os
import pathlib
import re
import shutil
from collections.abc import Callable, Iterator
from importlib import resources
from typing import Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from rvrun.cli.schema import SchemaName, read_schema
from rvrun.errors import RvrunError
from rvrun.model import (
    RESERVED,
    DeclaredPipeline,
    NeedKind,
    Plan,
    PlannedPipeline,
    Resources,
    Stage,
    check_command_name,
    check_pipeline_name,
)
from rvrun.plan.compile import compile_plan
from rvrun.plan.serialize import VERSION, NotAPlan, plan_from_json, plan_to_json
from rvrun.plan.splits import MAX_SPLITS
from tests.conftest import GOLDENS, ROOT, Project
from tests.strategies import declared_pipelines, plans

FILE = ROOT / "rvrun" / "plan" / "plan.schema.json"
SCHEMA = json.loads(FILE.read_text(encoding="utf-8"))
DEFS = SCHEMA["$defs"]
VALIDATOR = Draft202012Validator(SCHEMA)
DOC = (ROOT / "docs" / "plan-format.md").read_text(encoding="utf-8")
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
DIGEST = "sha256:" + "0a" * 32


def blocks(language: str) -> list[str]:
    """The fenced blocks of `language` in the documentation."""
    return re.findall(rf"^```{language}\n(.*?)^```$", DOC, flags=re.MULTILINE | re.DOTALL)


def example() -> str:
    """The plan that the documentation shows, without the comments."""
    (shown,) = blocks("jsonc")
    return re.sub(r"^ *// .*\n", "", shown, flags=re.MULTILINE)


def problems(document: object) -> list[str]:
    """What the schema has against `document`, with the place of each."""
    return [f"{error.json_path}: {error.message}" for error in VALIDATOR.iter_errors(document)]


def nodes(schema: object) -> Iterator[dict[str, Any]]:
    """Every object in a schema, itself included."""
    if isinstance(schema, dict):
        yield schema
    if isinstance(schema, (dict, list)):
        for value in schema.values() if isinstance(schema, dict) else schema:
            yield from nodes(value)


@pytest.fixture
def checkout(project: Project) -> Project:
    """The examples in a folder of their own."""
    shutil.copytree(ROOT / "examples", project.folder / "examples")
    return project


def render(checkout: Project, name: str, *words: str, **env: str) -> str:
    """The plan of the example called `name`, in 4 splits."""
    checkout.rvrun("render", "local", f"examples/{name}.py", "--splits", "4", *words, **env)
    return checkout.read(f"runs/{name}/plan.json")


# The schema itself


def test_the_schema_is_one() -> None:
    """It is valid by its own draft, and says by its name which version it is of."""
    Draft202012Validator.check_schema(SCHEMA)
    assert SCHEMA["$id"] == f"urn:rvrun:schema:plan:{VERSION}"
    assert SCHEMA["properties"]["rvrun_plan"]["const"] == VERSION


def test_every_part_is_strict_and_described() -> None:
    """No object takes other keys, and every property and definition has a description."""
    described = [*DEFS.values(), SCHEMA]
    for node in nodes(SCHEMA):
        if node.get("type") == "object":
            assert node["additionalProperties"] is False
            described += node["properties"].values()
    assert len(described) > 20
    assert [node for node in described if not node.get("description")] == []


def test_the_schema_says_what_the_model_says() -> None:
    """Limits, kinds, resources and argv are those of the code."""
    stage = DEFS["stage"]["properties"]
    assert (stage["splits"]["minimum"], stage["splits"]["maximum"]) == (1, MAX_SPLITS)
    assert DEFS["need"]["properties"]["kind"]["enum"] == [kind.value for kind in NeedKind]
    fields = [field.name for field in attrs.fields(Resources)]
    assert list(DEFS["resources"]["properties"]) == fields
    for name, argv in (
        ("argv_of_whole", Stage(command="cut").argv),
        ("argv_of_split", Stage(command="cut", num_splits=MAX_SPLITS).argv),
    ):
        words = DEFS[name]["prefixItems"]
        assert DEFS[name]["minItems"] == len(words) == len(argv)
        assert [w.get("const", said) for w, said in zip(words, argv, strict=True)] == list(argv)


def test_keys_are_listed_as_they_are_written() -> None:
    """In the schema they have the order that they have in a plan, and all are required."""
    document = json.loads(example())
    pipeline = document["pipelines"][0]
    stage = pipeline["stages"][1]
    for schema, value in (
        (SCHEMA, document),
        (DEFS["pipeline"], pipeline),
        (DEFS["stage"], stage),
        (DEFS["need"], stage["needs"][0]),
    ):
        assert list(value) == list(schema["properties"]) == schema["required"]


# What rvrun writes


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_plans_of_examples_validate(checkout: Project, path: pathlib.Path) -> None:
    """Every example's plan is one by the schema."""
    assert problems(json.loads(render(checkout, path.stem))) == []


def test_plans_among_the_goldens_validate() -> None:
    """So is every plan that a golden keeps."""
    for path in GOLDENS.rglob("*plan.json"):
        assert problems(json.loads(path.read_text(encoding="utf-8"))) == [], path


@given(plans())
@settings(max_examples=50)
def test_any_plan_validates(plan: Plan) -> None:
    """So is any plan that can be made."""
    assert problems(json.loads(plan_to_json(plan))) == []


@given(declared_pipelines())
@settings(max_examples=50)
def test_any_compiled_plan_validates(pipelines: list[DeclaredPipeline]) -> None:
    """So is what the compiler makes."""
    assert problems(json.loads(plan_to_json(compile_plan(pipelines)))) == []


@pytest.mark.parametrize("count", [1, 9, 10, MAX_SPLITS - 1, MAX_SPLITS])
def test_any_count_of_splits_validates(count: int) -> None:
    """From one to the most that can be asked for."""
    stage = Stage(command="cut", num_splits=count)
    pipeline = PlannedPipeline(name="tiny", config_digest=DIGEST, stages=(stage,))
    assert problems(json.loads(plan_to_json(Plan((pipeline,))))) == []


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
@pytest.mark.usefixtures("processes")
def test_a_plan_holds_nothing_of_where_and_when_it_was_made(
    tmp_path: pathlib.Path, path: pathlib.Path
) -> None:
    """Two users, folders, homes, zones and hash seeds give the same bytes, none of them in it."""
    texts = []
    for user, zone, seed in (("somebody-here", "UTC", "1"), ("somebody-else", "Asia/Tokyo", "2")):
        folder = tmp_path / f"folder-of-{user}"
        folder.mkdir()
        project = Project(folder)
        shutil.copytree(ROOT / "examples", folder / "examples")
        names = {"USER": user, "LOGNAME": user, "HOME": str(folder), "HOSTNAME": f"host-{user}"}
        texts.append(render(project, path.stem, **names, TZ=zone, PYTHONHASHSEED=seed))
    assert texts[0] == texts[1]
    told = ("somebody-", "folder-of", tmp_path.name, str(tmp_path), str(ROOT))
    assert [word for word in told if word in texts[0]] == []
    real = [name for name in (getpass.getuser(), os.uname().nodename) if len(name) > 3]
    # Whole words: the user `root` is not meant by `root_uri`.
    assert [name for name in real if re.search(rf"\b{re.escape(name)}\b", texts[0])] == []
    assert not re.search(r'"/|[0-9a-f]{8}-[0-9a-f]{4}|\d{4}-\d\d', texts[0])


# What rvrun reads


def plan_of_three() -> dict[str, Any]:
    """A plan with all that a plan can have, which schema and reader take."""

    def argv(command: str, *split: str) -> list[str]:
        return ["rvrun", "run_command", "{config}", command, *split]

    of_four = ("--split-ind", "{split_ind}", "--num-splits", "{num_splits}")
    parts = [
        ("chip", 4, [], [], {}, argv("chip", *of_four)),
        (
            "predict",
            4,
            [{"command": "chip", "kind": "aligned"}],
            ["model.lr"],
            {"vcpus": 1, "memory_mib": 2048, "gpus": 1, "timeout_seconds": 60},
            argv("predict", *of_four),
        ),
        ("eval", None, [{"command": "predict", "kind": "all"}], None, {}, argv("eval")),
    ]
    keys = ("command", "splits", "needs", "config_keys", "resources", "argv")
    stages = [{"gpu": False, **dict(zip(keys, part, strict=True))} for part in parts]
    pipeline = {
        "name": "tiny",
        "config": "config/tiny.json",
        "config_digest": DIGEST,
        "stages": stages,
    }
    return {"rvrun_plan": 1, "pipelines": [pipeline]}


def changed(place: str, value: object) -> dict[str, Any]:
    """`plan_of_three` with `value` at a dotted place; `...` takes away what is there."""
    document = plan_of_three()
    *before, last = [int(part) if part.isdigit() else part for part in place.split(".")]
    at: Any = document
    for part in before:
        at = at[part]
    if value is ...:
        del at[last]
    else:
        at[last] = value
    return document


def is_read(document: object) -> bool:
    """Whether rvrun reads `document` as a plan."""
    try:
        plan_from_json(json.dumps(document))
    except NotAPlan:
        return False
    return True


P = "pipelines.0"
S = "pipelines.0.stages.1"
#: Wrong for rvrun and for the schema.
WRONG_FOR_BOTH: list[tuple[str, object]] = [
    ("rvrun_plan", ...),
    ("rvrun_plan", 2),
    ("rvrun_plan", "1"),
    ("rvrun_plan", None),
    ("pipelines", ...),
    ("pipelines", 5),
    ("pipelines", ["tiny"]),
    (f"{P}.name", ...),
    (f"{P}.name", 5),
    (f"{P}.name", ""),
    (f"{P}.name", "../tiny"),
    (f"{P}.name", ".tiny"),
    (f"{P}.name", "a b"),
    (f"{P}.name", "é"),
    (f"{P}.name", "tiny\n"),
    (f"{P}.name", "tiny.json"),
    (f"{P}.name", "all"),
    (f"{P}.name", "Done"),
    (f"{P}.config_digest", ...),
    (f"{P}.stages", ...),
    (f"{P}.stages", 5),
    (f"{P}.stages", ["chip"]),
    (f"{S}.command", ...),
    (f"{S}.command", 5),
    (f"{S}.command", "a b"),
    (f"{S}.command", "1a"),
    (f"{S}.command", "a\n"),
    (f"{S}.splits", ...),
    (f"{S}.splits", "4"),
    (f"{S}.splits", 4.5),
    (f"{S}.splits", 0),
    (f"{S}.splits", -1),
    (f"{S}.splits", True),
    (f"{S}.splits", None),  # its need is aligned
    (f"{S}.gpu", ...),
    (f"{S}.gpu", "no"),
    (f"{S}.gpu", 1),
    (f"{S}.gpu", None),
    (f"{S}.needs", ...),
    (f"{S}.needs", 5),
    (f"{S}.needs", None),
    (f"{S}.needs", ["chip"]),
    (f"{S}.needs.0.command", ...),
    (f"{S}.needs.0.command", "a b"),
    (f"{S}.needs.0.kind", ...),
    (f"{S}.needs.0.kind", "some"),
    (f"{S}.needs.0.kind", None),
    (f"{S}.config_keys", ...),
    (f"{S}.config_keys", "top"),
    (f"{S}.config_keys", [5]),
    (f"{S}.resources", ...),
    (f"{S}.resources", [1]),
    (f"{S}.resources", None),
    (f"{S}.resources.vcpu", 1),
    (f"{S}.resources.vcpus", 0),
    (f"{S}.resources.vcpus", 1.5),
    (f"{S}.resources.memory_mib", "2048"),
    (f"{S}.resources.gpus", True),
    (f"{S}.resources.timeout_seconds", -1),
]
#: What rvrun does not look at, since it knows it, or lets pass; the schema does not.
WRONG_FOR_THE_SCHEMA: list[tuple[str, object]] = [
    ("made_at", "2024-02-29"),
    ("pipelines", []),
    (f"{P}.host", "here"),
    (f"{P}.config", ...),
    (f"{P}.config", "/home/user/config/tiny.json"),
    (f"{P}.config", "config/../tiny.json"),
    (f"{P}.config", "config/tiny.json\n"),
    (f"{P}.config_digest", "sha256:0a"),
    (f"{P}.config_digest", f"{DIGEST}\n"),
    (f"{P}.config_digest", DIGEST.upper()),
    (f"{P}.config_digest", "md5:" + "0a" * 32),
    (f"{P}.stages", []),
    (f"{S}.uuid", "0"),
    (f"{S}.splits", MAX_SPLITS + 1),
    (f"{S}.needs.0.why", "before"),
    (f"{S}.needs", [{"command": "chip", "kind": "all"}] * 2),
    (f"{S}.config_keys", [""]),
    (f"{S}.argv", ...),
    (f"{S}.argv", "rvrun run_command"),
    (f"{S}.argv", []),
    (f"{S}.argv.0", "/usr/bin/rvrun"),
    (f"{S}.argv.2", "config/tiny.json"),
    (f"{S}.argv.3", "a b"),
    (f"{S}.argv.5", "0"),
    (f"{S}.argv.7", "04"),
    (f"{S}.argv.7", "10000001"),
    (f"{S}.argv.7", 4),
    (f"{S}.argv.7", ...),
    (f"{P}.stages.2.argv.3", ...),
    (f"{P}.stages.2.splits", 4),  # its argv is of a whole
]
#: What no schema can say; rvrun refuses it.
WRONG_FOR_RVRUN: list[tuple[str, object]] = [
    (f"{S}.command", "chip"),
    (f"{S}.splits", 5),
    (f"{S}.splits", 4.0),
    (f"{S}.needs.0.command", "gone"),
    (f"{S}.needs.0.command", "eval"),
    ("pipelines", plan_of_three()["pipelines"] * 2),
]


def test_the_plan_that_is_changed_is_right() -> None:
    """So that a refusal is one of the change."""
    assert problems(plan_of_three()) == []
    assert is_read(plan_of_three())
    assert problems(changed(f"{P}.name", "alls.json.d")) == []


@pytest.mark.parametrize(("place", "value"), WRONG_FOR_BOTH)
def test_what_rvrun_refuses_the_schema_refuses(place: str, value: object) -> None:
    """Missing keys, wrong shapes and names are no plan for either."""
    document = changed(place, value)
    assert problems(document)
    assert not is_read(document)


@pytest.mark.parametrize(("place", "value"), WRONG_FOR_THE_SCHEMA)
def test_the_schema_is_stricter_where_rvrun_does_not_look(place: str, value: object) -> None:
    """Other keys, digests and command lines than rvrun writes are refused by the schema."""
    assert problems(changed(place, value))


@pytest.mark.parametrize(("place", "value"), WRONG_FOR_RVRUN)
def test_what_a_schema_cannot_say(place: str, value: object) -> None:
    """Order, uniqueness and alignment are checked by rvrun alone, as the documentation tells."""
    document = changed(place, value)
    assert not is_read(document)
    assert problems(document) == []


@pytest.mark.parametrize("document", [None, 5, "plan", [], {}])
def test_what_is_no_object_is_no_plan(document: object) -> None:
    """Neither for rvrun nor for the schema."""
    assert problems(document)
    assert not is_read(document)


WORDS = (*RESERVED, "json", ".json", "tiny", "a", "Z", "_", "-", ".", "0", "9")
STRANGE = ("\n", " ", "/", "$", "%", "é", "\u017f", "\u0660", "\0")
near_names = st.builds(
    lambda parts, as_case: as_case("".join(parts)),
    st.lists(st.sampled_from(WORDS * 3 + STRANGE), max_size=3),
    st.sampled_from([str, str.upper, str.title]),
)


@given(near_names | st.text(max_size=5))
@settings(max_examples=500)
def test_names_are_those_of_the_model(name: str) -> None:
    """The schema takes a name if and only if the model does."""
    for definition, check in (
        ("pipeline_name", check_pipeline_name),
        ("command_name", check_command_name),
    ):
        try:
            check(name)
        except RvrunError:
            taken = False
        else:
            taken = True
        assert Draft202012Validator(DEFS[definition]).is_valid(name) == taken, definition


# The command, the package and the documentation


def test_the_command_prints_the_file(project: Project) -> None:
    """To the byte, also where the terminal knows no more than ASCII."""
    done = project.rvrun("schema", "plan", PYTHONIOENCODING="ascii")
    assert (done.stdout.encode(), done.stderr) == (FILE.read_bytes(), "")


def test_an_unknown_name_is_refused(project: Project) -> None:
    """The error tells which there are."""
    done = project.rvrun("schema", "plam", code=2)
    assert done.stdout == ""
    assert "plam" in done.stderr
    assert "'plan'" in done.stderr


def test_the_package_holds_every_schema() -> None:
    """They are found where the package is, in a folder or not, one for each name."""
    files = resources.files("rvrun.plan").iterdir()
    shipped = {file.name: file.read_bytes() for file in files if file.name.endswith(".json")}
    assert shipped == {f"{name}.schema.json": read_schema(name) for name in SchemaName}
    assert shipped[FILE.name] == FILE.read_bytes()


def test_the_example_is_what_is_rendered(checkout: Project) -> None:
    """The plan in the documentation, without its comments, is that of the tiny example."""
    assert example() == render(checkout, "tiny")


def test_every_field_is_documented() -> None:
    """The tables name the fields of the schema, all of them, in its order."""
    objects = (SCHEMA, *(DEFS[name] for name in ("pipeline", "stage", "need", "resources")))
    fields = itertools.chain.from_iterable(schema["properties"] for schema in objects)
    assert re.findall(r"^\| `(\w+)` \|", DOC, flags=re.MULTILINE) == list(fields)


def test_the_lines_for_readers_print_what_is_shown(checkout: Project) -> None:
    """Each line of Python in the documentation prints what stands below it."""
    render(checkout, "tiny")
    typed = [part for block in blocks("console") for part in block.split("$ ")[1:]]
    assert len(typed) == 5
    for part in typed:
        command, _, printed = part.partition("\n")
        assert checkout.run("sh", "-c", command).stdout == printed


@pytest.mark.parametrize(
    "change",
    [lambda plan: plan.update(rvrun_plan=2), lambda plan: plan["pipelines"][0].pop("stages")],
)
def test_the_line_that_validates_finds_what_is_wrong(
    checkout: Project, change: Callable[[dict[str, Any]], object]
) -> None:
    """The last line of the documentation fails for what is no plan."""
    document = json.loads(render(checkout, "tiny"))
    change(document)
    checkout.write("runs/tiny/plan.json", json.dumps(document))
    write, validate = blocks("console")[-1].replace("$ ", "").splitlines()
    checkout.run("sh", "-c", write)
    assert "ValidationError" in checkout.run("sh", "-c", validate, code=1).stderr
