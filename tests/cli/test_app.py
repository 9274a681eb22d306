"""The command line itself: help, common options, completion, exit codes, what is imported."""

from __future__ import annotations

import os
import pathlib
import re
import shlex

import pytest
import typer
from typer.core import TyperCommand

import rvrun
from rvrun.cli.app import VERBS, command, main
from tests.conftest import Project


def test_usage_errors(project: Project) -> None:
    """Unknown verbs and options, and values of the wrong type or number: exit 2."""
    unknown = project.rvrun("rum", code=2).stderr
    assert unknown.startswith("rvrun: unknown verb `rum`; did you mean `run`? Known verbs: `run`, ")
    option = project.rvrun("plan", "x.py", "--split", "3", code=2).stderr
    assert option.startswith("rvrun: unknown option `--split` in `rvrun plan`; did you mean `--spl")
    assert "`-a` requires 2 arguments" in project.rvrun("plan", "x.py", "-a", "k", code=2).stderr
    number = project.rvrun("run", "local", "x.py", "-j", "many", code=2).stderr
    assert number == "rvrun: --jobs must be an integer, got 'many'\n"


def test_commands_that_only_raster_vision_has(project: Project) -> None:
    """Those that its plugins add: the error is the line to type instead."""
    for words in (("predict", "bundle.zip", "a b.tif", "out"), ("predict_scene", "bundle.zip")):
        line = shlex.join(words)
        assert project.rvrun(*words, code=2).stderr == (
            f"rvrun: `{words[0]}` is a command of Raster Vision's, which runs no pipeline; "
            f"type `rastervision {line}`\n"
        )


def test_a_bug_in_rvrun_keeps_its_traceback(tiny: Project) -> None:
    """Exit 3, a sentence, and the traceback in a file to send."""
    spoil = "import rvrun.prepare\nrvrun.prepare.compile_plan = lambda *args: 1 / 0\n"
    tiny.write("bug.py", tiny.read("tiny.py") + spoil)
    done = tiny.rvrun("plan", "bug.py", code=3, TMPDIR=str(tiny.folder))
    assert "rvrun: this is a bug in rvrun: ZeroDivisionError" in done.stderr
    (log,) = tiny.folder.glob("rvrun-bug-*.log")
    assert "Traceback (most recent call last)" in log.read_text()
    assert str(log) in done.stderr


def all_verbs() -> dict[str, TyperCommand]:
    """All verbs by name, as a generator of documentation sees them."""
    group = command()
    context = typer.Context(group)
    verbs = {}
    for name in group.list_commands(context):
        verb = group.get_command(context, name)
        assert isinstance(verb, TyperCommand)
        verbs[name] = verb
    return verbs


def help_of(verb: TyperCommand) -> str:
    return verb.get_help(typer.Context(verb, info_name=f"rvrun {verb.name}"))


def test_the_version(project: Project) -> None:
    """`--version` prints it, and works without a verb."""
    assert project.rvrun("--version").stdout == f"rvrun {rvrun.__version__}\n"


def test_the_help_lists_all_verbs(project: Project) -> None:
    """Each with one line, which is also the first sentence of its own help."""
    shown = project.rvrun("--help").stdout
    lines = {name: text for verbs in VERBS.values() for name, (_, text) in verbs.items()}
    for name, verb in all_verbs().items():
        assert re.search(rf"^  {name} +{re.escape(lines[name])}$", shown, re.MULTILINE)
        assert str(verb.help).split("\n")[0] == f"{lines[name]}."
        assert verb.name == name


def test_each_verb_has_an_example() -> None:
    """Its help ends with what to type, and explains all arguments and options."""
    for name, verb in all_verbs().items():
        shown = help_of(verb)
        assert f"\nExamples:\n  rvrun {name}" in shown
        for parameter in verb.params:
            assert getattr(parameter, "help", None), f"{name}: {parameter.name}"


def test_the_help_of_run() -> None:
    """It lists the runners that are installed."""
    assert "Installed: batch, inprocess, local," in " ".join(help_of(all_verbs()["run"]).split())


#: What `rvrun WORDS` loads.
LOADED = """
import sys
sys.argv[0] = "rvrun"
from rvrun.__main__ import main
try:
    main()
finally:
    print(*sorted(sys.modules), file=sys.stderr)
"""
#: The modules in `rvrun.cli` that every call loads.
BASE = {f"rvrun.cli.{name}" for name in ("app", "messages", "options", "usage")}


def loaded_by(project: Project, *words: str) -> set[str]:
    """The modules that a call of rvrun loads."""
    project.write("main.py", LOADED)
    return set(project.run("python", "main.py", *words).stderr.split())


def test_the_help_loads_no_verb(project: Project) -> None:
    """So that it takes little longer than Python takes to start; see `benchmarks`."""
    loaded = loaded_by(project, "--help")
    assert {name for name in loaded if name.startswith("rvrun.cli.")} == BASE
    assert loaded & {"attr", "rich", "jinja2", "boto3", "typing_extensions"} == set()
    assert "rvrun.prepare" not in loaded


def test_a_plan_that_is_only_shown_loads_little(tiny: Project) -> None:
    """No runner renders, so no template engine; nor what draws, runs, or talks to AWS."""
    loaded = loaded_by(tiny, "plan", "tiny.py")
    verbs = {name for name in loaded if name.startswith("rvrun.cli.")} - BASE
    names = ("differences", "hashing", "plan", "plan_table", "tables")
    assert verbs == {f"rvrun.cli.{name}" for name in names}
    assert loaded & {"rich", "jinja2", "boto3", "botocore", "typeguard", "psutil"} == set()


def test_a_plan_is_rendered_where_that_is_asked_for(tiny: Project) -> None:
    """`--templates` and `--runner` are about what is rendered, so their errors are found."""
    done = tiny.rvrun("plan", "tiny.py", "--templates", "nowhere", code=2)
    assert done.stderr == "rvrun: template nowhere: the directory does not exist\n"
    done = tiny.rvrun("plan", "tiny.py", "--runner", "batch", code=2)
    assert done.stderr.startswith("rvrun: ")


def test_common_options_may_stand_anywhere(tiny: Project) -> None:
    """Before the verb, after it, or both."""
    for words in (("-q", "render"), ("render", "-q"), ("-q", "render", "--quiet")):
        assert tiny.rvrun(*words, "local", "tiny.py", "--out", "x").stderr == ""
    missing = (
        "rvrun: profile `nowhere`: there is no file /nonexistent/rvrun/nowhere.toml or "
        f"{os.path.expanduser('~/.rastervision/nowhere')}\n"
    )
    assert tiny.rvrun("-p", "nowhere", "config", code=2).stderr == missing
    assert tiny.rvrun("config", "--profile", "nowhere", code=2).stderr == missing
    tiny.write("where.py", tiny.read("tiny.py") + "import os; print(os.environ['TMPDIR'])\n")
    graphs = (("--tmpdir", "tmp", "graph", "where.py"), ("graph", "where.py", "--tmpdir=tmp"))
    for graph in graphs:
        assert tiny.rvrun(*graph).stderr == f"{tiny.folder / 'tmp'}\n"


def test_exit_codes_of_main(in_folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What raises in a verb becomes an exit code, also in this process."""
    assert main(["plan"]) == 2
    assert main(["--version"]) == 0

    def interrupt(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("rvrun.cli.plan.prepare_plan", interrupt)
    assert main(["plan", "tiny.py"]) == 130


def test_quiet_and_verbose_may_stand_after_the_verb(tiny: Project) -> None:
    """-q and -v work wherever they stand."""
    assert tiny.rvrun("render", "local", "tiny.py", "-q").stderr == ""
    tiny.write("rvrun.toml", "[local]\njobs = 1\n")
    progress = tiny.rvrun("run", "local", "tiny.py", "-v").stderr
    assert "local.jobs = 1 (rvrun.toml)" in progress
    assert "tiny/cut/0 started" in progress


@pytest.mark.parametrize(
    "words",
    [
        "--help",
        "plan --help",
        "plan tiny.py",
        "graph tiny.py",
        "config",
        "schema plan",
        "check",
        "completion bash",
        "list --json",
        "explain tiny/show",
        "diff tiny.py runs/tiny",
    ],
)
def test_a_closed_pipe_has_an_exit_code_of_its_own(tiny: Project, words: str) -> None:
    """128 + SIGPIPE, as other programs have it, and not 1, which says that plans differ."""
    tiny.rvrun("render", "local", "tiny.py", "--splits", "2")
    tiny.run("mkfifo", "out")
    # The reader has closed its end before rvrun writes.
    script = f"exec 3<>out 4>out; exec 3<&-; rvrun {words} >&4"
    assert tiny.run("sh", "-c", script, code=141).stderr == ""
