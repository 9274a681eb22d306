"""Input that users get wrong ends with one sentence and exit code 2, whatever reads it."""

from __future__ import annotations

import json
import os
import pathlib
import re
import subprocess
import sys

import pytest

from rvrun.cli.redact import Redaction
from tests.conftest import PATIENCE, ROOT, Project, clean_environment

#: Trials of the fuzz test; `FUZZ_TRIALS=600` is the large run.
TRIALS = os.environ.get("FUZZ_TRIALS", "40")
CONFIG = """
import attrs, rvrun, typing

class TuneConfig(rvrun.PipelineConfig):
    lr: float = attrs.field(default=0.1, validator=attrs.validators.gt(0))
    score: typing.Any = None
    def build(self):
        return Tune(self)

class Tune(rvrun.Pipeline):
    commands = ("go",)
    def go(self):
        print("went")
"""


def sentence(project: Project, *words: str, code: int = 2, **env: str) -> str:
    """What a call prints on stderr: one line, in rvrun's name."""
    lines = project.rvrun(*words, code=code, **env).stderr.splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("rvrun: ")
    return lines[0].removeprefix("rvrun: ")


def test_damaged_input_is_one_sentence(project: Project) -> None:
    """All readers, and all ways to damage what they read."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz_inputs", TRIALS, "1"],
        cwd=ROOT,
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith(f"{TRIALS} trials: ")


@pytest.mark.parametrize(
    "words",
    [
        (b"plan", b"tiny.py", b"-a", b"root_uri", b"a\xff"),
        (b"render", b"local", b"tiny.py", b"--out", b"a\xff"),
        (b"plan", b"a\xff.py"),
        (b"run_command", b"a\xff.json", b"cut"),
    ],
)
def test_arguments_that_are_not_utf8(tiny: Project, words: tuple[bytes, ...]) -> None:
    """They would be part of a config, a plan or a Makefile."""
    done = tiny.run("rvrun", *words, code=2)  # type: ignore[arg-type]
    value = next(word for word in words if b"\xff" in word)
    assert done.stderr == (
        f"rvrun: an argument must be UTF-8, got {value!r}; rename it or leave it out\n"
    )


def test_values_that_are_not_utf8(tiny: Project) -> None:
    """A setting, and a root that a config takes from elsewhere."""
    bad = os.fsdecode(b"a\xff")
    assert sentence(tiny, "config", RVRUN_TEMPLATES=bad) == (
        r"the value of RVRUN_TEMPLATES must be UTF-8, got b'a\xff'; rename it or leave it out"
    )
    code = "import os\ndef get_config(runner): return TuneConfig(root_uri=os.environ['ROOT'])\n"
    tiny.write("tune.py", CONFIG + code)
    assert sentence(tiny, "plan", "tune.py", ROOT=bad) == (
        "config class TuneConfig: field `root_uri` must be a valid string, without surrogates"
    )


def test_a_current_directory_that_is_not_utf8(tiny: Project) -> None:
    """It works: no rendered file contains it."""
    folder = tiny.folder / os.fsdecode(b"b\xff")
    folder.mkdir()
    (folder / "tiny.py").write_text(tiny.read("tiny.py"))
    there = Project(folder)
    there.rvrun("run", "local", "tiny.py")
    there.rvrun("config")
    # A Makefile elsewhere would have to contain the way back here.
    assert sentence(there, "render", "local", "tiny.py", "--out", "../o").startswith(
        r"a path in a Makefile must be UTF-8, got b'../b\xff'; "
    )


def test_a_deleted_current_directory(tiny: Project) -> None:
    """Instead of an error about some file."""
    gone = 'mkdir gone && cd gone && rmdir ../gone && exec rvrun "$@"'
    for words in (("plan", "../tiny.py"), ("run_command", "x.json", "cut"), ("config",)):
        done = tiny.run("sh", "-c", gone, "sh", *words, code=2)
        assert done.stderr.endswith(
            "rvrun: the current directory does not exist any more; change to another with `cd`\n"
        )
    tiny.run("sh", "-c", gone, "sh", "--help")


@pytest.mark.parametrize("closed", ["2>&-", "1>&-", "0<&-", "1>&- 2>&-", "0<&- 1>&- 2>&-"])
def test_closed_standard_streams(tiny: Project, closed: str) -> None:
    """Nothing takes their numbers: no log, lock or record gets what is printed."""
    for words in ("plan tiny.py", "run local tiny.py", "plan nowhere.py", "config"):
        code = 2 if "nowhere" in words else 0
        tiny.run("sh", "-c", f"exec rvrun {words} {closed}", code=code)
    config = "runs/tiny/config/tiny.json"
    tiny.run("sh", "-c", f"exec rvrun run_command {config} sum {closed}", RVRUN_RUN_DIR="runs/tiny")
    for record in (tiny.folder / "runs/tiny/records/tiny").rglob("*.jsonl"):
        assert all(json.loads(line)["event"] for line in record.read_text().splitlines())


@pytest.mark.skipif(os.getuid() == 0, reason="root may write everywhere")
def test_a_run_directory_without_permission(tiny: Project) -> None:
    """The worker names the file."""
    tiny.rvrun("render", "local", "tiny.py")
    (tiny.folder / "locked").mkdir(mode=0o500)
    words = ("run_command", "runs/tiny/config/tiny.json", "sum")
    message = sentence(tiny, *words, RVRUN_RUN_DIR="locked", RVRUN_LOGS="1")
    assert message.startswith("locked/logs cannot be written: Permission denied; ")


def test_a_run_directory_that_cannot_be_written(tiny: Project) -> None:
    """A worker whose log or record cannot be written says so, and runs nothing."""
    tiny.rvrun("render", "local", "tiny.py")
    words = ("run_command", "runs/tiny/config/tiny.json", "cut", "--split-ind=0", "--num-splits=1")
    tiny.write("file", "")
    for logs in ("", "1"):
        message = sentence(tiny, *words, RVRUN_RUN_DIR="file", RVRUN_LOGS=logs)
        assert message.endswith("Not a directory; free space, or make it writable")
        assert message.startswith("file/")
    assert not (tiny.folder / "out").exists()


def test_a_damaged_record_does_not_stop_its_target(tiny: Project) -> None:
    """Lines that can be read still count; the others are skipped."""
    tiny.rvrun("run", "local", "tiny.py")
    record = tiny.folder / "runs/tiny/records/tiny/sum.jsonl"
    lines = [b"\xff", b"[]", b'{"event": 1}', b'{"event": "start"}', b"[" * 9999, b"9" * 5000]
    record.write_bytes(b"\n".join([*lines, record.read_bytes()]))
    tiny.rvrun("run", "local", "tiny.py", "-B")
    attempts = [
        json.loads(line).get("attempt")
        for line in record.read_text("latin-1").splitlines()
        if line.startswith('{"event": "start", "')
    ]
    assert attempts == [1, 2]
    assert tiny.rvrun("explain", "tiny/sum").returncode == 0


def test_a_damaged_copy_of_a_config(tiny: Project) -> None:
    """Then it is unknown what changed; other files among the copies do not matter."""
    tiny.rvrun("run", "local", "tiny.py")
    copies = tiny.folder / "runs/tiny/records/.configs/tiny"
    for copy in copies.iterdir():
        copy.write_bytes(b"\xff{")
    (copies / "notes.json").write_text("{")
    (copies / "1.json").mkdir()
    assert "config changed" in tiny.rvrun("plan", "tiny.py", "-a", "top", "1").stdout
    tiny.rvrun("explain", "tiny/sum")


def ledger(project: Project, name: str, run_dir: str = "runs/x", **facts: object) -> pathlib.Path:
    """A run that was submitted, its run.json with some facts changed."""
    folder = project.folder / run_dir / "submitted" / name
    (folder / "round-1").mkdir(parents=True)
    began = "2026-01-02T03:04:05.000000+00:00"
    facts = {"rvrun_run": 1, "runner": "batch", "began": began, **facts}
    (folder / "run.json").write_text(json.dumps(facts))
    return folder


def test_a_damaged_ledger_does_not_hide_others(project: Project) -> None:
    """It is listed with its problem, the others as always."""
    ledger(project, "good-20260102-030405-0000")
    bad = ledger(project, "bad-20260102-030406-0000", began=7)
    (ledger(project, "worse-20260102-030407-0000") / "run.json").write_bytes(b"\xff")
    done = project.rvrun("list")
    path = f"runs/x/submitted/{bad.name}/run.json"
    assert re.findall(r"^\w+-\d+", done.stdout, re.MULTILINE) == [
        "good-20260102",
        "bad-20260102",
        "worse-20260102",
    ]
    assert f"warning: {path}: `began` must be a string, got 7; restore it, or move" in done.stderr
    assert [row["runner"] for row in json.loads(project.rvrun("list", "--json").stdout)] == [
        "batch",
        "damaged",
        "damaged",
    ]
    # The latest one is damaged: showing, or cancelling, another one instead would be worse.
    assert "is not UTF-8" in sentence(project, "status")
    assert "`began` must be a string" in sentence(project, "cancel", bad.name)


def test_a_damaged_plan_does_not_hide_others(tiny: Project) -> None:
    """`explain` looks for the run directory that has the target."""
    tiny.rvrun("run", "local", "tiny.py")
    tiny.write("runs/other/plan.json", "{")
    tiny.rvrun("explain", "tiny/sum")
    assert "runs/other/plan.json" in sentence(tiny, "explain", "nowhere/sum")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (b"all:\n\xff", "must be UTF-8 ("),
        (b"{{ 1 / 0 }}", "rendering it raised ZeroDivisionError: division by zero"),
        (b"{{ ''.join(3) }}", "rendering it raised TypeError: "),
        (b"{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "rendering it raised RecursionError"),
    ],
)
def test_templates_that_fail(tiny: Project, text: bytes, problem: str) -> None:
    """They are the user's code, which may raise anything."""
    (tiny.folder / "t").mkdir()
    (tiny.folder / "t" / "Makefile.j2").write_bytes(text)
    message = sentence(tiny, "render", "local", "tiny.py", "--templates", "t")
    assert message.startswith(f"template Makefile.j2: {problem}")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("run", "local", "tiny.py", "-j", "lots"), "--jobs must be an integer, got 'lots'"),
        (
            ("run", "local", "tiny.py", "-j", "9" * 19),
            f"--jobs must be an integer of at most 18 digits, got '{'9' * 19}'",
        ),
        (
            ("graph", "tiny.py", "-f", "png"),
            "--format must be one of `mermaid`, `dot`, `svg`, got 'png'",
        ),
        (
            ("schema", "plna"),
            "NAME must be one of `plan`, `estimates`, `pipeline`, `status`, `list`, `config`, got "
            "'plna'; did you mean `plan`?",
        ),
        (
            ("run", "tiny.py"),
            "RUNNER must be one of `batch`, `inprocess`, `local`, `sagemaker`, `slurm`, got "
            "'tiny.py', which looks like a config; write `rvrun run RUNNER CONFIG`",
        ),
        (
            ("render", "tiny.py", "cut"),
            "RUNNER must be one of `batch`, `inprocess`, `local`, `sagemaker`, `slurm`, got "
            "'tiny.py', which looks like a config; write `rvrun render RUNNER CONFIG`",
        ),
        (
            ("run", "local"),
            "`rvrun run` requires CONFIG; write `rvrun run RUNNER CONFIG [COMMAND]...`, or create "
            "a `pipeline.toml` with `rvrun init`",
        ),
        (
            ("plan", "tiny.py", "--check", "nosuch"),
            "--check must name a directory with a saved plan, got `nosuch`, which does not exist; "
            "save the plan there with `rvrun plan CONFIG --out nosuch`",
        ),
        (
            ("list", "x", "y"),
            "`rvrun list` does not accept so many arguments; remove `x y`",
        ),
        (
            ("plan", "tiny.py", "-a", "k"),
            "option `-a` requires 2 arguments; type `rvrun plan --help` to see its arguments and "
            "options",
        ),
        (
            ("run", "local", "tiny.py", "--out", "/proc/x"),
            "run directory /proc/x cannot be used: No such file or directory",
        ),
        (
            ("run", "local", "tiny.py", "--out", "s3://bucket/x"),
            "--out must name a directory on this machine, got `s3://bucket/x`; use a path",
        ),
        (
            ("run", "local", "tiny.py", "-a", "root_uri", "s3://bucket/x"),
            "`root_uri` of pipeline `tiny` must be a directory for a run on this machine, got "
            "`s3://bucket/x`; use a path, or set `handles_uris = True` in `Tiny` if its commands "
            "read and write such URIs",
        ),
    ],
)
def test_wrong_usage_is_one_sentence(tiny: Project, words: tuple[str, ...], message: str) -> None:
    """In rvrun's style, not in that of the library that parses the command line."""
    assert sentence(tiny, *words) == message
    assert sorted(path.name for path in tiny.folder.iterdir()) == ["tiny.py"]


def test_long_values_are_shortened(tiny: Project) -> None:
    """Wherever they come from."""
    long = "x" * 5000
    for words in (
        ("plan", "tiny.py", "-a", "colour", long),
        ("plan", "tiny.py", "-a", "top", long),
        ("plan", "tiny.py", "-a", long, "1"),
        ("plan", "tiny.py", "-s", long),
        ("plan", "tiny.py", long),
        ("plan", long),
        ("run", long, "tiny.py"),
        ("status", long),
        (long,),
        ("plan", "tiny.py", f"--{long}"),
        ("run", "local", "tiny.py", "--out", long),
    ):
        message = sentence(tiny, *words)
        assert "xxx… (5,0" in message
        assert len(message) < 1500


def test_a_bug_report_has_no_secrets(tiny: Project) -> None:
    """Neither the file nor the message on stderr."""
    spoil = "import rvrun.prepare\ndef fail(*args): raise RuntimeError(get_config.secret)\n"
    code = "rvrun.prepare.compile_plan = fail\ndef get_config(runner, key):\n"
    code += "    get_config.secret = key\n    return TuneConfig(root_uri='out')\n"
    tiny.write("bug.py", CONFIG + spoil + code)
    words = ("plan", "bug.py", "-a", "key", "s3cr'et value")
    done = tiny.rvrun(*words, code=3, TMPDIR=str(tiny.folder), MY_TOKEN="t0ken")
    (log,) = tiny.folder.glob("rvrun-bug-*.log")
    for text in (done.stderr, log.read_text()):
        assert "s3cr" not in text
        assert "RuntimeError" in text
    assert "['plan', 'bug.py', '-a', 'key', '***']" in log.read_text()


@pytest.mark.parametrize(
    ("argv", "shown"),
    [
        (["plan", "-a", "k", "v", "-s", "2"], ["plan", "-a", "k", "***", "-s", "2"]),
        (["plan", "-ak", "v"], ["plan", "-ak", "***"]),
        (["plan", "--arg=k", "v"], ["plan", "--arg=k", "***"]),
        (["plan", "-a", "k"], ["plan", "-a", "k"]),
        (["x", "TOKEN=abc"], ["x", "TOKEN=***"]),
    ],
)
def test_redacted_command_lines(argv: list[str], shown: list[str]) -> None:
    """However `-a` is spelled, and however short its value is."""
    assert Redaction.of(argv, {}).words(argv) == shown


def test_values_of_environment_tables_are_hidden(tiny: Project) -> None:
    """Their names are shown."""
    tiny.write("rvrun.toml", '[batch]\nenvironment = {A = "hush", B = "hush"}\n')
    assert "hush" not in (done := tiny.rvrun("config").stdout)
    assert "A=***,B=***" in done
    assert "hush" not in tiny.rvrun("-v", "run", "local", "tiny.py", "--dry-run").stderr
    assert "hush" not in tiny.rvrun("check").stdout
    tiny.write("rvrun.toml", '[batch]\nenvironment = {A = "hush", B = 3}\n')
    assert sentence(tiny, "config") == (
        "rvrun.toml: `batch.environment` must be a table of strings, got 'A=***,B=***'"
    )


def test_configs_that_cannot_be_saved(project: Project) -> None:
    """The message names the field."""
    code = "def get_config(runner): return TuneConfig(root_uri='out', score=lambda x: x)\n"
    project.write("tune.py", CONFIG + code)
    assert sentence(project, "plan", "tune.py") == (
        "config class TuneConfig: field `score` cannot be saved as JSON: Object of type function "
        "is not JSON serializable"
    )


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"lrr": 1}, "unknown field `lrr` (did you mean `lr`?)"),
        ({"root_uri": None}, "None is not a string at root_uri"),
        ({"lr": -1}, "`TuneConfig.lr` must be > 0, got -1.0"),
    ],
)
def test_saved_configs_that_do_not_fit(
    project: Project, change: dict[str, object], problem: str
) -> None:
    """Here and in the worker: the file, the field, and what to do."""
    project.write("tune.py", CONFIG)
    config = {"$type": "tune:TuneConfig", "root_uri": "out", "name": "tune", **change}
    project.write("c.json", json.dumps({"rvrun_config": 1, "source": "tune.py", "config": config}))
    for words in (("plan", "c.json"), ("run_command", "c.json", "go")):
        assert sentence(project, *words) == (
            f"c.json: saved config of type `tune:TuneConfig`: {problem}; correct that file, or "
            "save it again with `rvrun render`"
        )


def test_a_traceback_has_only_the_users_frames(project: Project) -> None:
    """Rvrun's own, and those of what creates configs, would only be in the way."""
    code = (
        "def check(config, field, value): raise ValueError('my rule')\n"
        "class Own(TuneConfig):\n    n: int = attrs.field(default=1, validator=check)\n"
        "def get_config(runner): return Own(root_uri='out')\n"
    )
    project.write("tune.py", CONFIG + code)
    lines = project.rvrun("plan", "tune.py", code=2).stderr.splitlines()
    files = {line.strip().split('"')[1] for line in lines if line.strip().startswith("File ")}
    assert str(project.folder / "tune.py") in files
    assert not any(f"{ROOT}/rvrun" in file or "<attrs" in file for file in files)
    assert lines[-1] == "rvrun: `get_config` of tune.py raised ValueError: my rule"


def test_the_worker_obeys_the_setting_imports(
    project: Project, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """From the environment, the project's file or the profile; code elsewhere does not run."""
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "tune.py"
    elsewhere.write_text(CONFIG + "print('it ran')\n")
    config = {"$type": "tune:TuneConfig", "root_uri": "out", "name": "tune"}
    document = {"rvrun_config": 1, "source": str(elsewhere), "config": config}
    project.write("c.json", json.dumps(document))
    words = ("run_command", "c.json", "go")
    assert project.rvrun(*words).stdout == "it ran\nwent\n"
    refused = f"`{elsewhere}` must be in {project.folder} or in an installed package, because of"
    assert refused in sentence(project, *words, RVRUN_IMPORTS="project")
    project.write("rvrun.toml", 'imports = "project"\n')
    assert refused in sentence(project, *words)
    assert refused in sentence(project, "plan", "c.json")
    assert project.rvrun(*words, RVRUN_IMPORTS="any").stdout == "it ran\nwent\n"
    (project.folder / "tune.py").write_text(elsewhere.read_text())
    project.write("c.json", json.dumps({**document, "source": "tune.py"}))
    assert project.rvrun(*words).stdout == "it ran\nwent\n"
