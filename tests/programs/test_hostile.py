"""Thousands of hostile items and values: each arrives as it is, and none is executed.

The suite tries a part of them. For all: HOSTILE=10000 pytest -n 0 tests/programs/test_hostile.py
"""

from __future__ import annotations

import csv
import json
import os
import random
from collections.abc import Sequence

import pytest

from tests.conftest import Project

CANARY = "executed"
PIECES = (
    *("'", '"', "`", "$", "\\", "\n", "\t", " ", "#", ";", "&", "|", "<", ">", "(", ")", "*", "?"),
    *("[", "]", "{", "}", "~", "!", "%", "=", "^", "-", "--", "é", "日本", "🚀", "\x01", "\x7f"),
    *("{item}", "{{", "}}", "{config.x}", "$HOME", "${IFS}", "$@", "$1", "%s", "\\n", "\r", "a"),
    *(f"$(touch {CANARY})", f"`touch {CANARY}`", f"; touch {CANARY};", f"\ntouch {CANARY}\n"),
    *(f"'; touch {CANARY}; '", f'"; touch {CANARY}; "', f"|touch {CANARY}", f"&&touch {CANARY} #"),
)
#: What some programs take for the end of a line, all controls, and what ends a construct of sh.
CONTROLS = (
    *map(chr, range(1, 32)),
    *("\x7f", "\x85", "\xa0", "\u2028", "\u2029", "\ufeff", "\ue000", "\U0010ffff", "e\u0301"),
    *("\r\n", "EOF", "esac", "done", "fi", "}", ";;", "((", "$rvrun_1", "${rvrun_1}", "\\\n", "]]"),
)
#: How many items there are, each of which arrives in eight ways.
COUNT = int(os.environ.get("HOSTILE", "2000"))


def hostile(count: int, seed: int, pieces: Sequence[str] = PIECES) -> list[str]:
    """Distinct strings that a shell would misread, some of them with leading dashes or newlines."""
    source = random.Random(seed)
    values = {"", "-", "--", "-n", "-e", "--help", " ", "\n", "'", '"', "\\", "$", "if", "x=1"}
    while len(values) < count:
        values.add("".join(source.choices(pieces, k=source.randint(1, 6))))
    return sorted(values)


def toml(value: str) -> str:
    """A string in TOML, whose basic strings have JSON's escapes; DEL is escaped, too."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


PIPELINE = r"""
root = "out"
[commands.argv]
items = ITEMS
splits = 2
run = ["sh", "-c", 'shift; printf "%s\0" "$1" >> "$0"', "{root}/argv.{split}", "", "{item}"]
[commands.plain]
items = ITEMS
splits = 2
run = 'printf "%s\0" {item} >> {root}/plain.{split}'
[commands.quoted]
items = ITEMS
splits = 2
run = '''
printf "%s\0" "<{item}>" '<{item}>' "$(printf "%sx" {item})" >> {root}/quoted.{split}
# {item} '
'''
[commands.together]
items = ITEMS
splits = 8
run = ["sh", "-c", 'printf "%s\0" "$@" > "$0"', "{root}/together.{split}", "{items...}"]
[commands.script]
items = ITEMS
splits = 8
run = 'printf "%s\0" {items...} > {root}/script.{split}'
[commands.file]
items = ITEMS
splits = 8
run = ["cp", "{items_file0}", "{root}/file.{split}"]
[commands.marked]
items = ITEMS
run = 'printf "%s\0" {item} >> {root}/marked.0'
[commands.variable]
items = ITEMS
splits = 2
env = { VALUE = "<{item}>" }
run = 'printf "%s\0" "$VALUE" >> {root}/variable.{split}'
"""


def arrived(project: Project, command: str, splits: int) -> list[str]:
    """What the program of a command got, in the order of the splits."""
    files = [project.folder / f"out/{command}.{split}" for split in range(splits)]
    content = b"".join(file.read_bytes() for file in files)
    return [value.decode() for value in content.split(b"\0")[:-1]]


def test_items_arrive_as_they_are(project: Project) -> None:
    items = hostile(COUNT, 1)
    project.write("items.json", json.dumps(items))
    project.write("pipeline.toml", PIPELINE.replace("ITEMS", '{ json = "items.json" }'))
    project.rvrun("run", "local", "-j2")
    assert arrived(project, "argv", 2) == items
    assert arrived(project, "plain", 2) == items
    assert arrived(project, "marked", 1) == items
    quoted = [f"<{i}>" for i in items]
    assert arrived(project, "quoted", 2) == [
        v for i, q in zip(items, quoted, strict=True) for v in (q, q, f"{i}x")
    ]
    assert arrived(project, "together", 8) == items
    assert arrived(project, "script", 8) == items
    assert arrived(project, "file", 8) == items
    assert arrived(project, "variable", 2) == quoted
    assert [path.name for path in project.folder.rglob(CANARY)] == []


CONTEXTS = r"""
root = "out"
[commands.contexts]
items = { json = "items.json" }
splits = 2
run = '''
f() {{ printf '%s\0' "$1"; }}
{{
printf '%s\0' {item} "{item}" '{item}'
x={item} y="{item}" z='{item}'; printf '%s\0' "$x" "${{y}}" "$z"
case {item} in {item}) printf '%s\0' {item} ;; esac
# {item} ' " $( ` (
( printf '%s\0' {item} )
for i in {item} "{item}"; do printf '%s\0' "$i"; done
if test "x{item}" = x{item}; then f '{item}'; fi
V={item} printenv --null V
printf '%s\0' "$(printf '%s' "$(printf '%s' "{item}"; printf x)")" # {item}
printf \
  '%s\0' \
  {item} | cat
set -- {item} '{item}'; printf '%s\0' "$@"
}} >> {root}/contexts.{split}
cat <<'EOF' > /dev/null
$x `x`
EOF
'''
[commands.row]
items = { json = "rows.json" }
splits = 2
env = { E = "<{item.v}>" }
run = ["sh", "-c", 'shift; printf "%s\0" "$@" "$E" >> "$0"', "{root}/row.{split}", "", "{item.v}"]
[commands.csv]
items = { csv = "items.csv", column = "v" }
splits = 2
run = ["cp", "{items_file0}", "{root}/csv.{split}"]
[commands.lines]
items = { lines = "items.txt" }
splits = 2
run = ["cp", "{items_file}", "{root}/lines.{split}"]
[commands.folder]
items = { json = "folders.json" }
cwd = "in/{item}"
run = 'printf "%s\0" "$PWD" >> "../../out/folder.0"'
"""


def test_every_context_of_a_script_and_every_kind_of_items(project: Project) -> None:
    """With control characters, and what only some programs take for the end of a line."""
    items = hostile(300, 5, (*PIECES, *CONTROLS, *CONTROLS))
    lines = [item for item in items if "\n" not in item and item[-1:] != "\r" and item.strip()]
    folders = [item for item in lines if "/" not in item and item not in (".", "..")][:40]
    for folder in folders:
        (project.folder / "in" / folder).mkdir(parents=True)
    project.write("items.json", json.dumps(items))
    project.write("rows.json", json.dumps([{"v": item} for item in items]))
    project.write("folders.json", json.dumps(folders))
    with (project.folder / "items.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["v"], *([item] for item in items)])
    text = "".join(f"{line}\n" for line in lines)
    (project.folder / "items.txt").write_bytes(text.encode())
    project.write("pipeline.toml", CONTEXTS)
    project.rvrun("run", "local", "-j2")
    contexts = [[item] * 12 + [f"{item}x"] + [item] * 3 for item in items]
    assert arrived(project, "contexts", 2) == [value for values in contexts for value in values]
    assert arrived(project, "row", 2) == [v for item in items for v in (item, f"<{item}>")]
    assert arrived(project, "csv", 2) == items
    copied = b"".join((project.folder / f"out/lines.{split}").read_bytes() for split in range(2))
    assert copied.decode() == text
    parent = project.folder / "in"
    assert arrived(project, "folder", 1) == [f"{parent}/{folder}" for folder in folders]
    assert [path.name for path in project.folder.rglob(CANARY)] == []


VALUES = r"""
[config]
VALUES
[commands.argv]
run = ["sh", "-c", 'printf "%s\0" "$@" > "$0"', "out/argv.0", WORDS]
[commands.script]
run = '''
printf '%s\0' PLAIN > out/script.0
'''
[commands.variables]
env = { ENV }
run = "printenv --null > out/variables"
"""


def test_values_of_the_config_arrive_as_they_are(project: Project) -> None:
    values = hostile(200, 2)
    text = VALUES.replace("VALUES", "\n".join(f"v{i} = {toml(v)}" for i, v in enumerate(values)))
    names = [f"{{config.v{i}}}" for i in range(len(values))]
    text = text.replace("WORDS", ", ".join(f'"{name}"' for name in names))
    text = text.replace("PLAIN", " ".join(names))
    text = text.replace("ENV", ", ".join(f'V{i} = "{name}"' for i, name in enumerate(names)))
    project.write("pipeline.toml", f'root = "out"\n{text}')
    project.rvrun("run", "local", "-j2")
    assert arrived(project, "argv", 1) == values
    assert arrived(project, "script", 1) == values
    content = (project.folder / "out/variables").read_bytes().split(b"\0")
    variables = dict(line.split(b"=", 1) for line in content if b"=" in line)
    assert [variables[f"V{i}".encode()].decode() for i in range(len(values))] == values
    assert [path.name for path in project.folder.rglob(CANARY)] == []


def test_lines_of_a_file(project: Project) -> None:
    """Items without line breaks arrive as lines, in a file of their own."""
    items = [item for item in hostile(2000, 3) if not set(item) & set("\n\r") and item.strip()]
    project.write("items.json", json.dumps(items))
    project.write(
        "pipeline.toml",
        'root = "out"\n[commands.list]\nitems = { json = "items.json" }\n'
        'run = ["cp", "{items_file}", "{root}/list"]\n',
    )
    project.rvrun("run", "local", TMPDIR=str(project.folder))
    assert project.folder.joinpath("out/list").read_bytes().decode().split("\n")[:-1] == items
    assert list(project.folder.glob("rvrun-items-*")) == []


def test_a_value_given_on_the_command_line(project: Project) -> None:
    project.write(
        "pipeline.toml",
        'root = "out"\n[config]\nx = ""\n'
        '[commands.show]\nrun = "printf %s {config.x} > {root}/x"\n',
    )
    for value in hostile(20, 4):
        project.rvrun("run", "local", "-a", "x", value)
        assert (project.folder / "out/x").read_bytes().decode() == value
    assert [path.name for path in project.folder.rglob(CANARY)] == []


@pytest.mark.parametrize("value", ["-rf", "--help", "-"])
def test_leading_dashes(project: Project, value: str) -> None:
    project.write(
        "pipeline.toml",
        f'root = "out"\n[commands.show]\nitems = ["{value}"]\n'
        'run = ["sh", "-c", \'printf %s "$2" > "$1"\', "sh", "{root}/x", "{item}"]\n',
    )
    project.rvrun("run", "local")
    assert project.read("out/x") == value
