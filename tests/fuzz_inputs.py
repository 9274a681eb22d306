"""Feed every reader of rvrun with damaged input, and check that it answers with one sentence.

    python -m tests.fuzz_inputs [COUNT] [SEED]

Each trial copies a small project that has run, damages one input of it, and runs a command that
reads this input, in a process of its own. The command must end with exit code 0, 1 or 2 and without
a traceback of rvrun's, and an exit code of 2 must come with a sentence that names the input. Prints
the trials that do not, and counts.
"""

from __future__ import annotations

import collections
import io
import json
import os
import pathlib
import random
import re
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

import attrs

ROOT = pathlib.Path(__file__).parent.parent
#: Seconds after which a trial is taken to hang, for example on a FIFO.
PATIENCE = 120
RUN = "tiny-20260102-030405-abcd"
LEDGER = f"runs/tiny/submitted/{RUN}"
STATE = {
    "run_id": RUN,
    "runner": "batch",
    "stages": [
        {"name": "tiny/cut", "counts": {"succeeded": 1}, "began": 1.0, "ended": 2.0, "stuck": ""}
    ],
    "began": 1.0,
    "ended": 2.0,
    "submitted": True,
    "cancelled": False,
    "failure": None,
}
SPEC = {
    "jobName": "${run}-tiny-cut",
    "jobQueue": "queue",
    "jobDefinition": "definition",
    "containerOverrides": {"command": ["rvrun", "run_command"], "environment": []},
    "tags": {"rvrun:run": "${run}", "rvrun:job": "tiny/cut"},
}
TOML = """templates = "templates"
[local]
jobs = 2
gpus = ["0"]
[batch]
vcpus = 2
tags = {team = "maps"}
[batch.commands."tiny/*"]
memory_mib = 100
"""


@attrs.frozen
class Reader:
    """An input, and the commands that read it.

    - `input`: a path; `NAME=` for an environment variable, `-x` for an option.
    - `value`: what it has before it is damaged; of a path, the content of the project's file.
    """

    input: str
    commands: tuple[tuple[str, ...], ...]
    value: str = ""
    env: tuple[tuple[str, str], ...] = ()


RECORDS = (("RVRUN_RUN_DIR", "runs/tiny"), ("RVRUN_LOGS", "1"))
READERS = (
    Reader("saved.json", (("plan", "saved.json"), ("run_command", "saved.json", "sum"))),
    Reader("runs/tiny/plan.json", (("diff", "runs/tiny", "tiny.py"), ("explain", "tiny/sum"))),
    Reader("runs/tiny/plan.json", (("plan", "tiny.py", "--check", "runs/tiny"),)),
    Reader(
        "runs/tiny/config/tiny.json", (("explain", "tiny/sum"), ("diff", "runs/tiny", "b.json"))
    ),
    Reader("rvrun.toml", (("config",), ("plan", "tiny.py"), ("check", "tiny.py"))),
    Reader("pyproject.toml", (("config",), ("render", "local", "tiny.py"))),
    Reader("home/rvrun/default.toml", (("config",), ("plan", "tiny.py"))),
    Reader("runs/tiny/records/tiny/sum.jsonl", (("run", "local", "tiny.py", "-B", "sum"),)),
    Reader(
        "runs/tiny/records/tiny/sum.jsonl",
        (("run_command", "saved.json", "sum"), ("explain", "tiny/sum")),
        env=RECORDS,
    ),
    Reader("runs/tiny/plan.json", (("list",), ("status", "tiny"), ("logs", "tiny", "tiny/sum"))),
    Reader("runs/tiny/records/.runs.jsonl", (("list",), ("status", "tiny"), ("retry", "tiny"))),
    Reader(
        "runs/tiny/records/tiny/sum.jsonl",
        (("status", "tiny"), ("logs", "tiny"), ("report", "tiny", "--html", "o")),
    ),
    Reader("runs/tiny/config/tiny.json", (("status", "tiny"), ("report", "tiny", "--html", "o"))),
    Reader("runs/tiny/logs/tiny/sum.log", (("run_command", "saved.json", "sum"),), env=RECORDS),
    Reader("VERSION", (("explain", "tiny/sum"), ("plan", "tiny.py", "-a", "top", "1"))),
    Reader("runs/tiny/done/tiny/sum", (("plan", "tiny.py"), ("explain", "tiny/sum"))),
    Reader("runs/tiny/done/tiny/cut.1", (("plan", "tiny.py"), ("explain", "tiny/cut"))),
    Reader(f"{LEDGER}/run.json", (("list",), ("status", RUN), ("list", "--json"))),
    Reader(f"{LEDGER}/events.jsonl", (("status", RUN), ("retry", RUN), ("cancel", RUN))),
    Reader(f"{LEDGER}/round-1/batch/1-tiny-cut.json", (("retry", RUN), ("cancel", RUN))),
    Reader("templates/Makefile.j2", (("render", "local", "tiny.py"), ("run", "local", "tiny.py"))),
    Reader("estimates.json", (("plan", "tiny.py", "-B", "--estimate"), ("tune", "tiny.py"))),
    Reader("plans/tiny/request.json", (("run", "local", "--plan", "plans/tiny", "--dry-run"),)),
    Reader("runs/tiny/records/tiny/sum.jsonl", (("plan", "tiny.py", "-B", "--estimate"),)),
    Reader("runs/tiny/records/tiny/cut.1/0.jsonl", (("records", "summary", "runs/tiny"),)),
    Reader("RVRUN_PRICES_GPU_HOUR=", (("config",), ("plan", "tiny.py", "--estimate")), "0.5"),
    Reader("RVRUN_PRICES_INSTANCES=", (("config",),), "ml.m5.large=0.1"),
    Reader("--affected", (("plan", "tiny.py", "--affected"), ("diff", "b.json", "--base")), "HEAD"),
    Reader("--until", (("plan", "tiny.py", "--until"), ("plan", "tiny.py", "--force")), "sum"),
    Reader("RVRUN_LOCAL_JOBS=", (("config",), ("plan", "tiny.py")), "4"),
    Reader("RVRUN_LOCAL_GPUS=", (("config",),), "0,1"),
    Reader("RVRUN_BATCH_TAGS=", (("config",),), "a=b,c=d"),
    Reader("RVRUN_IMPORTS=", (("run_command", "saved.json", "sum"), ("config",)), "project"),
    Reader("RVRUN_PROFILE=", (("config",),), "default"),
    Reader("RVRUN_VERBOSITY=", (("run_command", "saved.json", "sum"),), "1"),
    Reader("RVRUN_EVENTS=", (("run_command", "saved.json", "sum"),), "9"),
    Reader("RVRUN_RUN_DIR=", (("run_command", "saved.json", "sum"),), "runs/tiny"),
    Reader(
        "RVRUN_SPLITS=",
        (("run_command", "saved.json", "cut", "--num-splits", "4", "--runner", "batch"),),
        "0-1,3",
    ),
    Reader(
        "AWS_BATCH_JOB_ARRAY_INDEX=",
        (("run_command", "saved.json", "cut", "--num-splits", "4", "--runner", "batch"),),
        "2",
    ),
    Reader("-a", (("plan", "tiny.py", "-a", "top"), ("plan", "tiny.py", "-a", "root_uri")), "3"),
    Reader("-s", (("plan", "tiny.py", "-s"), ("plan", "tiny.py", "count", "-s")), "cut=4"),
    Reader("-j", (("run", "local", "tiny.py", "--dry-run", "-j"),), "2"),
    Reader(
        "--split-ind",
        (("run_command", "saved.json", "cut", "--num-splits", "2", "--split-ind"),),
        "1",
    ),
    Reader("--out", (("plan", "tiny.py", "--out"), ("render", "local", "tiny.py", "--out")), "o"),
    Reader("CONFIG", (("plan",), ("run_command",), ("diff", "tiny.py"), ("graph",)), "tiny.py"),
    Reader("TARGET", (("explain",), ("logs", "@latest")), "tiny/cut/0"),
    Reader("-f", (("graph", "tiny.py", "-f"), ("schema",), ("status",)), "dot"),
)


def truncate(content: bytes, rng: random.Random) -> bytes:
    return content[: rng.randrange(len(content) + 1)]


def flip(content: bytes, rng: random.Random) -> bytes:
    damaged = bytearray(content)
    for _ in range(rng.randint(1, 8) if damaged else 0):
        damaged[rng.randrange(len(damaged))] = rng.randrange(256)
    return bytes(damaged)


def not_utf8(content: bytes, rng: random.Random) -> bytes:
    place = rng.randrange(len(content) + 1)
    return content[:place] + rng.choice([b"\xff", b"\xc3", b"\xed\xa0\x80"]) + content[place:]


def nest(content: bytes, rng: random.Random) -> bytes:
    depth = rng.choice([101, 990, 100_000])
    opening = rng.choice([b"[", b'{"a":', b'{"config":', b"a = [", b"{{ ("])
    closing = b"]" if opening.endswith(b"[") else b"}"
    return opening * depth + b"1" + closing * depth


def huge_number(content: bytes, rng: random.Random) -> bytes:
    number = rng.choice([b"9" * 5000, b"9" * 400, b"1e999", b"-" + b"9" * 20, b"9" * 15])
    return re.sub(rb"\d+", number, content, count=rng.randint(1, 3)) or number


def wrong_type(content: bytes, rng: random.Random) -> bytes:
    """One JSON value of another type, or the whole document."""
    values: list[Any] = [None, True, 7, -1.5, "text", [], {}, [[]], {"a": {}}, "\ud800"]
    try:
        lines = [json.loads(line) for line in content.splitlines()]
    except ValueError:
        try:
            lines = [json.loads(content)]
        except ValueError:
            return json.dumps(rng.choice(values)).encode()
    document = lines[rng.randrange(len(lines))] if lines else None
    places: list[tuple[Any, Any]] = []
    _collect(document, places)
    if places and rng.random() < 0.9:
        holder, key = rng.choice(places)
        if isinstance(holder, dict) and rng.random() < 0.3:
            del holder[key]
        else:
            holder[key] = rng.choice(values)
        return "\n".join(map(json.dumps, lines)).encode()
    return json.dumps(rng.choice(values)).encode()


def _collect(value: Any, places: list[tuple[Any, Any]]) -> None:
    """Add every object and list in `value`, with each of its keys, to `places`."""
    items: list[tuple[Any, Any]] = []
    if isinstance(value, dict):
        items = list(value.items())
    elif isinstance(value, list):
        items = list(enumerate(value))
    for key, item in items:
        places.append((value, key))
        _collect(item, places)


def empty(content: bytes, rng: random.Random) -> bytes:
    return rng.choice([b"", b"\n", b" "])


def nul(content: bytes, rng: random.Random) -> bytes:
    place = rng.randrange(len(content) + 1)
    return content[:place] + b"\0" * rng.randint(1, 9) + content[place:]


def duplicate_keys(content: bytes, rng: random.Random) -> bytes:
    keys = re.findall(rb'"([a-z_$]+)":', content) or [b"a"]
    key = rng.choice(keys)
    return (
        content.replace(b"{", b'{"' + key + b'": 1, "' + key + b'": 2, ', 1) + b"\njobs = 1\n" * 2
    )


def not_a_number(content: bytes, rng: random.Random) -> bytes:
    return re.sub(
        rb"\d+(\.\d+)?", rng.choice([b"NaN", b"Infinity", b"-Infinity"]), content, count=2
    )


def long_text(content: bytes, rng: random.Random) -> bytes:
    return content.replace(b'"', b'"' + b"x" * 5000, rng.randint(1, 5)) or b"x" * 5000


CORRUPTIONS: tuple[Callable[[bytes, random.Random], bytes], ...] = (
    truncate,
    flip,
    not_utf8,
    nest,
    huge_number,
    wrong_type,
    empty,
    nul,
    duplicate_keys,
    not_a_number,
    long_text,
)
#: What a file is replaced by.
OBJECTS = ("directory", "fifo", "loop", "unreadable", "huge", "missing")


def replace(path: pathlib.Path, kind: str) -> None:
    """Replace a file by something that is not a readable file."""
    if path.is_dir():
        shutil.rmtree(path)
    elif os.path.lexists(path):
        path.unlink()
    if kind == "directory":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "loop":
        path.symlink_to(path.name)
    elif kind == "unreadable":
        path.write_bytes(b"{}")
        path.chmod(0)
    elif kind == "huge":
        with path.open("wb") as file:
            file.truncate(1 << 40)


def make_project(folder: pathlib.Path) -> None:
    """Make the project that trials copy: tiny, after a run, with a ledger and settings."""
    shutil.copy(ROOT / "examples" / "tiny.py", folder)
    code, output = call(("run", "local", "tiny.py"), folder)
    assert code == 0, output
    shutil.copy(folder / "runs/tiny/config/tiny.json", folder / "saved.json")
    shutil.copy(folder / "runs/tiny/config/tiny.json", folder / "b.json")
    shutil.copytree(ROOT / "templates" / "local", folder / "templates")
    for words in (("records", "summary"), ("plan", "tiny.py", "--out", "plans/tiny")):
        code, output = call(words, folder)
        assert code == 0, output
    (folder / "rvrun.toml").write_text(TOML)
    (folder / "home/rvrun").mkdir(parents=True)
    (folder / "home/rvrun/default.toml").write_text("[local]\njobs = 1\n")
    ledger = folder / LEDGER
    (ledger / "round-1/batch").mkdir(parents=True)
    facts = {"rvrun_run": 1, "runner": "batch", "began": "2026-01-02T03:04:05.000001+00:00"}
    (ledger / "run.json").write_text(json.dumps({**facts, "profile": None, "region": "eu-west-1"}))
    (ledger / "round-1/batch/1-tiny-cut.json").write_text(json.dumps(SPEC))
    events = [
        {"event": "intended", "time": "t", "job": "tiny/cut", "round": 1, "name": "n"},
        {"event": "accepted", "time": "t", "job": "tiny/cut", "round": 1, "id": "i"},
        {"event": "submitted", "time": "t", "round": 1},
        {"event": "ended", "time": "t", "round": 1, "state": STATE},
    ]
    (ledger / "events.jsonl").write_text("".join(f"{json.dumps(event)}\n" for event in events))


def call(
    words: tuple[str | bytes, ...], folder: pathlib.Path, env: Mapping[str, bytes] | None = None
) -> tuple[int, str]:
    """Run rvrun in a fork of this process, which has imported it; return exit code and output."""
    # What the target says goes to its log then.
    is_logged = (env or {}).get("RVRUN_LOGS") == b"1"
    with tempfile.TemporaryFile() as output:
        child = os.fork()
        if child == 0:
            _run(words, folder, env or {}, output.fileno())
        _, status = os.waitpid(child, 0)
        output.seek(0)
        log = folder / "runs/tiny/logs/tiny/sum.log"
        content = output.read()
        if is_logged and log.is_file():
            content += log.read_bytes()
        return os.waitstatus_to_exitcode(status), content.decode(errors="replace")


def _run(
    words: tuple[str | bytes, ...], folder: pathlib.Path, env: Mapping[str, bytes], output: int
) -> NoReturn:
    code = 99
    try:
        signal.alarm(PATIENCE)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(output, 1)
        os.dup2(output, 2)
        sys.stdout = io.TextIOWrapper(io.FileIO(1, "w", closefd=False), encoding="utf-8")
        sys.stderr = io.TextIOWrapper(
            io.FileIO(2, "w", closefd=False), "utf-8", "backslashreplace", write_through=True
        )
        os.chdir(folder)
        os.environ["XDG_CONFIG_HOME"] = str(folder / "home")
        os.environ["AWS_EC2_METADATA_DISABLED"] = "true"
        for name, value in env.items():
            os.environb[os.fsencode(name)] = value
        sys.argv = ["rvrun", *(os.fsdecode(word) for word in words)]
        from rvrun.__main__ import main

        main()
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 0
    except BaseException:  # noqa: BLE001 - what Python would print
        import traceback

        traceback.print_exc()
        code = 1
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(code)


def judge(code: int, output: str, subject: str) -> str:
    """Return what is wrong with an answer; empty if nothing is.

    - `subject`: what the sentence must name: the name of a file, a variable; empty for options.
    """
    sentences = re.findall(r"^rvrun: .*", output, re.MULTILINE)
    is_theirs = "tiny.py" in output and f"{ROOT}/rvrun/" not in output
    # A spec that could still be submitted is followed by the first call to AWS.
    others = (RUN, "Unable to locate credentials")
    is_named = len(sentences) > 1 or any(word in output for word in (subject, *others))
    faults = {
        f"exit code {code}": code not in (0, 1, 2),
        "reported as a bug": "this is a bug" in output,
        "traceback of rvrun's": "Traceback" in output and not is_theirs,
        "no sentence": code == 2 and not sentences and "error" not in output,
        "a sentence of more than 2,500 characters": any(len(line) > 2500 for line in sentences),
        f"the sentence does not name {subject}": code == 2 and not is_named,
    }
    return ", ".join(fault for fault, is_there in faults.items() if is_there)


def _damage_file(path: pathlib.Path, rng: random.Random) -> str:
    """Damage a file, or replace it by something else; return what was done."""
    if path.name == "pyproject.toml":
        (path.parent / "rvrun.toml").unlink()
        settings = TOML.replace("[", "[tool.rvrun.").replace('templates = "templates"', "")
        path.write_text(settings.replace("[tool.rvrun.]", "[]"))
    if path.is_file() and rng.random() < 0.7:
        corruption = rng.choice(CORRUPTIONS)
        path.write_bytes(corruption(path.read_bytes(), rng))
        return corruption.__name__
    kind = rng.choice(OBJECTS)
    replace(path, kind)
    return kind


def trial(project: pathlib.Path, folder: pathlib.Path, rng: random.Random) -> tuple[str, str]:
    """Damage one input of a copy of `project` in `folder`; return what was done, and the fault."""
    shutil.copytree(project, folder, symlinks=True)
    reader, command = rng.choice([(r, c) for r in READERS for c in r.commands])
    words: tuple[str | bytes, ...] = command
    env = {name: value.encode() for name, value in reader.env}
    subject = ""
    name = reader.input
    if name == "VERSION":
        name = str(next((folder / "runs/tiny/records/.configs/tiny").iterdir()).relative_to(folder))
    if "/" in name or "." in name:
        damage = _damage_file(folder / name, rng)
        # A file that is missing may be one that need not exist.
        is_named = name.endswith((".json", ".toml", ".j2")) and damage != "missing"
        subject = pathlib.PurePath(name).name if is_named else ""
    else:
        corruption = rng.choice(CORRUPTIONS)
        damage = corruption.__name__
        # The kernel accepts no NUL in strings, and none that are longer.
        value = corruption(reader.value.encode(), rng).replace(b"\0", b"")[:100_000]
        if name.endswith("="):
            env[name.removesuffix("=")] = value
        else:
            words = (*words, value)
    done = f"{name}: {damage}: rvrun {command}"
    code, output = call(words, folder, env)
    fault = judge(code, output, subject)
    return f"exit {code}", f"{done}: {fault}\n{output[-1500:]}" if fault else ""


def main(count: int, seed: int) -> int:
    """Run `count` trials and print their faults and counts; return the number of faults."""
    import rvrun.cli.app
    import rvrun.prepare
    import rvrun.runners.batch.lifecycle
    import rvrun.runners.local.makefile  # noqa: F401 - imported once, for all trials

    rng = random.Random(seed)
    counts: collections.Counter[str] = collections.Counter()
    with tempfile.TemporaryDirectory(prefix="rvrun-fuzz-") as place:
        project = pathlib.Path(place, "project")
        project.mkdir()
        make_project(project)
        for number in range(count):
            folder = pathlib.Path(place, str(number))
            outcome, fault = trial(project, folder, random.Random(rng.random()))
            counts[outcome] += 1
            if fault:
                counts["faults"] += 1
                print(f"--- trial {number}: {fault}")
            shutil.rmtree(folder, ignore_errors=True)
    print(f"{count} trials: {dict(sorted(counts.items()))}")
    return counts["faults"]


if __name__ == "__main__":
    numbers = [int(word) for word in sys.argv[1:]]
    sys.exit(1 if main(*(numbers + [600, 1][len(numbers) :])) else 0)
