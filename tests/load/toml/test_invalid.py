"""Invalid files: one sentence with place, value and fix; the JSON Schema refuses what it can."""

from __future__ import annotations

import json
import pathlib
import re
import tomllib
from collections.abc import Callable

import jsonschema
import pytest

from rvrun.errors import RvrunError
from rvrun.load.toml.build import load_toml
from rvrun.load.toml.keys import FILE, schema
from tests.conftest import ROOT
from tests.load.toml.invalid import OTHERS, SCHEMA, WITH_FILE

SHIPPED = json.loads((ROOT / "rvrun/load/toml/pipeline.schema.json").read_text(encoding="utf-8"))
ALL: dict[str, tuple[str | bytes, bytes]] = {
    **{name: (text, b"") for name, text in {**SCHEMA, **OTHERS}.items()},
    **WITH_FILE,
}
EXAMPLES = [
    *ROOT.glob("examples/**/*.toml"),
    ROOT / "templates/init/pipeline.toml",
]


def message(text: str | bytes, other: bytes = b"") -> str:
    """What is reported for a file with that text, beside the file `s`, in the current directory."""
    content = text.encode() if isinstance(text, str) else text
    pathlib.Path("pipeline.toml").write_bytes(content)
    pathlib.Path("s").write_bytes(other)
    with pytest.raises(RvrunError) as caught:
        load_toml("pipeline.toml", {})
    assert caught.value.how_to_fix()
    return str(caught.value)


def test_there_are_at_least_forty() -> None:
    assert len(SCHEMA) + len(OTHERS) + len(WITH_FILE) >= 40


def test_messages(in_folder: pathlib.Path, golden: Callable[[str, str], None]) -> None:
    lines = [f"{name}\n    {message(*files)}\n" for name, files in ALL.items()]
    golden("pipeline.errors.txt", "".join(lines))


@pytest.mark.parametrize("name", ALL)
def test_a_message_is_one_sentence_with_place_and_fix(in_folder: pathlib.Path, name: str) -> None:
    text = message(*ALL[name])
    assert re.match(r"(pipeline\.toml|s):\d+:\d+: .*[;?]", text), text
    assert "\n" not in text


def is_valid(values: object) -> bool:
    return bool(jsonschema.Draft202012Validator(SHIPPED).is_valid(values))


@pytest.mark.parametrize("name", SCHEMA)
def test_the_schema_refuses_what_rvrun_refuses(name: str) -> None:
    values = tomllib.loads(SCHEMA[name])
    assert list(FILE.faults(values, ()))
    assert not is_valid(values)


@pytest.mark.parametrize("name", OTHERS)
def test_the_schema_accepts_the_rest(name: str) -> None:
    """What only rvrun finds is not in the table of keys, either."""
    try:
        values = tomllib.loads(OTHERS[name])
    except ValueError:
        return
    if name != "infinity":
        assert not list(FILE.faults(values, ()))
        assert is_valid(values)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_examples_are_valid(path: pathlib.Path) -> None:
    values = tomllib.loads(path.read_text(encoding="utf-8"))
    if "commands" in values:
        assert not list(FILE.faults(values, ()))
        assert is_valid(values)


def test_the_shipped_schema_is_what_the_keys_declare() -> None:
    """Written by `rvrun schema pipeline`; each key has a description."""
    assert schema() == SHIPPED
    jsonschema.Draft202012Validator.check_schema(SHIPPED)
    commands = SHIPPED["properties"]["commands"]["additionalProperties"]["properties"]
    for key in (*SHIPPED["properties"].values(), *commands.values()):
        assert key["description"].endswith(".")
