"""The schema of plan.json, compared with what rvrun writes and reads, and its documentation."""

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

from rvrun.cli.schema import PACKAGES, VERBS, SchemaName, read_schema
from rvrun.errors import RvrunError
from rvrun.model import (
    MAX_SPLITS,
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
    """The fenced code blocks of a language in the documentation."""
    return re.findall(rf"^```{language}\n(.*?)^```$", DOC, flags=re.MULTILINE | re.DOTALL)


def example() -> str:
    """The plan in the documentation, without the comments."""
    (block,) = blocks("jsonc")
    return re.sub(r"^ *// .*\n", "", block, flags=re.MULTILINE)


def problems(document: object) -> list[str]:
    """The errors that validation finds in `document`, each with its path."""
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
    """A project with a copy of the examples."""
    shutil.copytree(ROOT / "examples", project.folder / "examples")
    return project


def render(checkout: Project, name: str, *words: str, **env: str) -> str:
    """The plan of an example in 4 splits."""
    checkout.rvrun("render", "local", f"examples/{name}.py", "--splits", "4", *words, code=0, **env)
    return checkout.read(f"runs/{name}/plan.json")


# The schema itself


def test_the_schema_is_valid() -> None:
    """It conforms to its draft, and its id has the version of the format."""
    Draft202012Validator.check_schema(SCHEMA)
    assert SCHEMA["$id"] == f"urn:rvrun:schema:plan:{VERSION}"
    assert SCHEMA["properties"]["rvrun_plan"]["const"] == VERSION


def test_every_part_is_strict_and_described() -> None:
    """No object allows additional keys, and every property and definition has a description."""
    described = [*DEFS.values(), SCHEMA]
    for node in nodes(SCHEMA):
        if node.get("type") == "object":
            assert node["additionalProperties"] is False
            described += node["properties"].values()
    assert len(described) > 20
    assert [node for node in described if not node.get("description")] == []


def test_the_schema_agrees_with_the_code() -> None:
    """Limits, kinds, resources and argv are equal in both."""
    stage = DEFS["stage"]["properties"]
    assert (stage["splits"]["minimum"], stage["splits"]["maximum"]) == (1, MAX_SPLITS)
    assert DEFS["need"]["properties"]["kind"]["enum"] == [kind.value for kind in NeedKind]
    fields = [field.name for field in attrs.fields(Resources)]
    assert list(DEFS["resources"]["properties"]) == fields
    for name, argv in (
        ("argv_of_whole", Stage(command="cut").argv),
        ("argv_of_split", Stage(command="cut", num_splits=MAX_SPLITS).argv),
    ):
        items = DEFS[name]["prefixItems"]
        assert DEFS[name]["minItems"] == len(items) == len(argv)
        assert [item.get("const", word) for item, word in zip(items, argv, strict=True)] == list(
            argv
        )


def test_keys_are_in_the_order_of_the_schema() -> None:
    """A plan has all keys of the schema in the same order, and all are required."""
    document = json.loads(example())
    pipeline = document["pipelines"][0]
    stage = pipeline["stages"][1]
    for schema, value in (
        (SCHEMA, document),
        (DEFS["pipeline"], pipeline),
        (DEFS["stage"], stage),
        (DEFS["need"], stage["needs"][0]),
    ):
        optional = ("inputs", "item_inputs", "produced", "outputs")
        properties = [key for key in schema["properties"] if key not in optional]
        assert list(value) == properties == schema["required"]


# What rvrun writes


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_plans_of_examples_validate(checkout: Project, path: pathlib.Path) -> None:
    """The plan of every example is valid."""
    assert problems(json.loads(render(checkout, path.stem))) == []


def test_plans_among_the_goldens_validate() -> None:
    """Every plan among the goldens is valid."""
    for path in GOLDENS.rglob("*plan.json"):
        assert problems(json.loads(path.read_text(encoding="utf-8"))) == [], path


@given(plans())
@settings(max_examples=50)
def test_any_plan_validates(plan: Plan) -> None:
    """Every plan that rvrun can write is valid."""
    assert problems(json.loads(plan_to_json(plan))) == []


@given(declared_pipelines())
@settings(max_examples=50)
def test_any_compiled_plan_validates(pipelines: list[DeclaredPipeline]) -> None:
    """Every plan that the compiler returns is valid."""
    assert problems(json.loads(plan_to_json(compile_plan(pipelines)))) == []


@pytest.mark.parametrize("count", [1, 9, 10, MAX_SPLITS - 1, MAX_SPLITS])
def test_any_number_of_splits_validates(count: int) -> None:
    """Valid numbers range from 1 to the maximum."""
    stage = Stage(command="cut", num_splits=count)
    pipeline = PlannedPipeline(name="tiny", config_digest=DIGEST, stages=(stage,))
    assert problems(json.loads(plan_to_json(Plan((pipeline,))))) == []


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
@pytest.mark.usefixtures("processes")
def test_a_plan_does_not_depend_on_where_and_when_it_is_made(
    tmp_path: pathlib.Path, path: pathlib.Path
) -> None:
    """Other users, folders, homes, time zones and hash seeds give the same bytes."""
    texts = []
    for user, zone, seed in (("somebody-here", "UTC", "1"), ("somebody-else", "Asia/Tokyo", "2")):
        folder = tmp_path / f"folder-of-{user}"
        folder.mkdir()
        project = Project(folder)
        shutil.copytree(ROOT / "examples", folder / "examples")
        names = {"USER": user, "LOGNAME": user, "HOME": str(folder), "HOSTNAME": f"host-{user}"}
        texts.append(render(project, path.stem, **names, TZ=zone, PYTHONHASHSEED=seed))
    assert texts[0] == texts[1]
    traces = ("somebody-", "folder-of", tmp_path.name, str(tmp_path), str(ROOT))
    assert [word for word in traces if word in texts[0]] == []
    names_here = [name for name in (getpass.getuser(), os.uname().nodename) if len(name) > 3]
    # Only whole words: `root_uri` is not the user `root`.
    assert [name for name in names_here if re.search(rf"\b{re.escape(name)}\b", texts[0])] == []
    assert not re.search(r'"/|[0-9a-f]{8}-[0-9a-f]{4}|\d{4}-\d\d', texts[0])


# What rvrun reads


def plan_of_three() -> dict[str, Any]:
    """A valid plan that has every feature of a plan."""

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
    rest = {"gpu": False, "code": "off", "items": None}
    stages = [{**rest, **dict(zip(keys, part, strict=True))} for part in parts]
    items = {"field": "scenes", "count": 9, "digest": DIGEST, "call": "item"}
    stages[0]["items"] = stages[1]["items"] = items
    pipeline = {
        "name": "tiny",
        "config": "config/tiny.json",
        "config_digest": DIGEST,
        "stages": stages,
    }
    return {"rvrun_plan": 1, "pipelines": [pipeline]}


def changed(place: str, value: object) -> dict[str, Any]:
    """`plan_of_three` with another value at a dotted path; `...` removes the key or item."""
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
#: Rejected by rvrun and by the schema.
INVALID_FOR_BOTH: list[tuple[str, object]] = [
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
    (f"{S}.splits", None),  # it has an aligned need
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
#: Rejected only by the schema: rvrun ignores these values, or checks them less strictly.
INVALID_FOR_THE_SCHEMA: list[tuple[str, object]] = [
    ("made_at", "2024-02-29"),
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
    (f"{P}.stages.2.splits", 4),  # its argv is that of a stage that cannot be split
]
#: Rejected only by rvrun: a schema cannot express these rules.
INVALID_FOR_RVRUN: list[tuple[str, object]] = [
    (f"{S}.command", "chip"),
    (f"{S}.splits", 5),
    (f"{S}.splits", 4.0),
    (f"{S}.needs.0.command", "gone"),
    (f"{S}.needs.0.command", "eval"),
    ("pipelines", plan_of_three()["pipelines"] * 2),
]


def test_the_unchanged_plan_is_valid() -> None:
    """Only the change makes rvrun or the schema reject a changed plan."""
    assert problems(plan_of_three()) == []
    assert is_read(plan_of_three())
    assert problems(changed(f"{P}.name", "alls.json.d")) == []


@pytest.mark.parametrize(("place", "value"), INVALID_FOR_BOTH)
def test_rvrun_and_the_schema_reject_an_invalid_plan(place: str, value: object) -> None:
    """Both reject missing keys, and values of the wrong type or form."""
    document = changed(place, value)
    assert problems(document)
    assert not is_read(document)


@pytest.mark.parametrize(("place", "value"), INVALID_FOR_THE_SCHEMA)
def test_the_schema_is_stricter_than_rvrun(place: str, value: object) -> None:
    """The schema rejects keys, digests and command lines that rvrun never writes."""
    assert problems(changed(place, value))


@pytest.mark.parametrize(("place", "value"), INVALID_FOR_RVRUN)
def test_rvrun_checks_what_a_schema_cannot_express(place: str, value: object) -> None:
    """Only rvrun checks order, uniqueness and alignment, as the documentation states."""
    document = changed(place, value)
    assert not is_read(document)
    assert problems(document) == []


@pytest.mark.parametrize("document", [None, 5, "plan", [], {}])
def test_another_json_value_is_not_a_plan(document: object) -> None:
    """Both rvrun and the schema require an object with the keys of a plan."""
    assert problems(document)
    assert not is_read(document)


WORDS = (*RESERVED, "json", ".json", "tiny", "a", "Z", "_", "-", ".", "0", "9")
INVALID_CHARACTERS = ("\n", " ", "/", "$", "%", "é", "\u017f", "\u0660", "\0")
near_names = st.builds(
    lambda parts, as_case: as_case("".join(parts)),
    st.lists(st.sampled_from(WORDS * 3 + INVALID_CHARACTERS), max_size=3),
    st.sampled_from([str, str.upper, str.title]),
)


@given(near_names | st.text(max_size=5))
@settings(max_examples=500)
def test_the_schema_accepts_the_names_that_rvrun_accepts(name: str) -> None:
    """A name is valid for the schema if and only if the model accepts it."""
    for definition, check in (
        ("pipeline_name", check_pipeline_name),
        ("command_name", check_command_name),
    ):
        try:
            check(name)
        except RvrunError:
            accepted = False
        else:
            accepted = True
        assert Draft202012Validator(DEFS[definition]).is_valid(name) == accepted, definition


# The command, the package and the documentation


def test_the_command_prints_the_file(project: Project) -> None:
    """`rvrun schema plan` prints the same bytes, even to a terminal with ASCII encoding."""
    done = project.rvrun("schema", "plan", PYTHONIOENCODING="ascii")
    assert (done.stdout.encode(), done.stderr) == (FILE.read_bytes(), "")


def test_an_unknown_schema_is_rejected(project: Project) -> None:
    """The error lists the schemas that exist."""
    done = project.rvrun("schema", "plam", code=2)
    assert done.stdout == ""
    assert "plam" in done.stderr
    assert "`plan`" in done.stderr


def test_the_package_contains_every_schema() -> None:
    """The package data has one schema per name, and the command reads it from there."""
    packages = {*PACKAGES.values(), VERBS}
    files = [file for package in packages for file in resources.files(package).iterdir()]
    packaged = {file.name: file.read_bytes() for file in files if file.name.endswith(".json")}
    assert packaged == {f"{name}.schema.json": read_schema(name) for name in SchemaName}
    assert packaged[FILE.name] == FILE.read_bytes()


def test_the_example_is_what_is_rendered(checkout: Project) -> None:
    """The plan in the documentation, without comments, is what the tiny example renders."""
    assert example() == render(checkout, "tiny")


def test_every_field_is_documented() -> None:
    """The tables have all fields of the schema, in the same order."""
    objects = (
        SCHEMA,
        *(DEFS[name] for name in ("pipeline", "stage", "items", "need", "resources")),
    )
    fields = itertools.chain.from_iterable(schema["properties"] for schema in objects)
    assert re.findall(r"^\| `(\w+)` \|", DOC, flags=re.MULTILINE) == list(fields)


def test_documented_commands_print_what_is_documented(checkout: Project) -> None:
    """Each command in the documentation prints the output shown below it."""
    render(checkout, "tiny")
    examples = [part for block in blocks("console") for part in block.split("$ ")[1:]]
    assert len(examples) == 5
    for part in examples:
        command, _, output = part.partition("\n")
        assert checkout.run("sh", "-c", command).stdout == output


@pytest.mark.parametrize(
    "change",
    [lambda plan: plan.update(rvrun_plan=2), lambda plan: plan["pipelines"][0].pop("stages")],
)
def test_the_documented_validation_rejects_an_invalid_plan(
    checkout: Project, change: Callable[[dict[str, Any]], object]
) -> None:
    """The last command of the documentation fails for an invalid plan."""
    document = json.loads(render(checkout, "tiny"))
    change(document)
    checkout.write("runs/tiny/plan.json", json.dumps(document))
    write, validate = blocks("console")[-1].replace("$ ", "").splitlines()
    checkout.run("sh", "-c", write)
    assert "ValidationError" in checkout.run("sh", "-c", validate, code=1).stderr
