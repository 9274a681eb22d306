"""The verbs of runs and plans: what they print and write, and their errors."""

from __future__ import annotations

import json
import os
import pathlib
import re
import shutil
import subprocess
from collections.abc import Callable

import pytest

from rvrun.prepare import run_dir_of
from tests.conftest import ROOT, Project, clean_environment

ARGS = """
import attrs, rvrun


class ArgsConfig(rvrun.PipelineConfig):
    count: int = attrs.field(default=1, validator=attrs.validators.ge(1))

    def build(self):
        if self.count == 13:
            raise RuntimeError("no thirteen")
        return Args(self)


class Args(rvrun.Pipeline):
    commands = ("work",)

    def work(self):
        print(self.config.count)


def get_config(runner, count: int = 1, *, fast: bool = False, title: str):
    return ArgsConfig(root_uri="out", count=count)
"""
TAKES = "`get_config` of args.py takes `count: int = 1`, `fast: bool = False`, `title: str`"


def test_plan_is_a_table(tiny: Project, golden: Callable[[str, str], None]) -> None:
    """`rvrun plan` shows stages, splits, needs, and what would run and why."""
    before = tiny.rvrun("plan", "tiny.py", "--splits", "3").stdout
    tiny.rvrun("run", "local", "tiny.py", "--splits", "3")
    (tiny.folder / "runs/tiny/done/tiny/cut.3/1").unlink()
    partly = tiny.rvrun("plan", "tiny.py", "--splits", "3").stdout
    tiny.rvrun("run", "local", "tiny.py", "--splits", "3")
    after = tiny.rvrun("plan", "tiny.py", "--splits", "3").stdout
    changed = tiny.rvrun("plan", "tiny.py", "--splits", "3", "-a", "top", "1").stdout
    golden("plan.txt", f"{before}\n{partly}\n{after}\n{changed}")


def test_the_plan_to_the_byte(tiny: Project, golden: Callable[[str, str], None]) -> None:
    """plan.json of an example, and of two pipelines in one plan."""
    tiny.rvrun("render", "local", "tiny.py", "--splits", "4")
    golden("tiny.plan.json", tiny.read("runs/tiny/plan.json"))
    shutil.copytree(ROOT / "examples", tiny.folder / "examples")
    words = ("examples/landcover.py", "--splits", "predict=16", "-a", "compare", "true")
    tiny.rvrun("render", "local", *words)
    golden("landcover.plan.json", tiny.read("runs/landcover/plan.json"))


def test_the_plan_as_json(tiny: Project) -> None:
    """It is what plan.json is, without writing it."""
    shown = tiny.rvrun("plan", "tiny.py", "--splits", "4", "--json").stdout
    tiny.rvrun("render", "local", "tiny.py", "--splits", "4")
    assert shown == tiny.read("runs/tiny/plan.json")


def test_plan_writes_nothing(tiny: Project) -> None:
    """`rvrun plan` only reads."""
    tiny.rvrun("plan", "tiny.py")
    assert [path.name for path in tiny.folder.iterdir()] == ["tiny.py"]


@pytest.mark.parametrize("form", ["mermaid", "dot"])
def test_graph(tiny: Project, golden: Callable[[str, str], None], form: str) -> None:
    """`rvrun graph` draws a split stage as one node."""
    golden(f"tiny.{form}", tiny.rvrun("graph", "tiny.py", "--splits", "1000", "-f", form).stdout)


def test_config_shows_each_value_with_its_origin(
    tiny: Project, golden: Callable[[str, str], None]
) -> None:
    """`rvrun config` shows the origin of each value."""
    tiny.write("rvrun.toml", "[local]\njobs = 3\n")
    golden("config.txt", tiny.rvrun("config", RVRUN_LOCAL_GPUS="0,1").stdout)


def test_config_where_nothing_is_set(project: Project) -> None:
    """All settings are shown, with their defaults."""
    lines = project.rvrun("config").stdout.splitlines()[2:]
    assert len(lines) > 40
    assert all("   default   " in line for line in lines)


def test_check_where_nothing_is_set(tiny: Project) -> None:
    """A check of a config needs no settings."""
    last = tiny.rvrun("check", "tiny.py").stdout.splitlines()[-1]
    assert re.fullmatch(r"\d+ ok(, \d+ warnings?)?", last)


def test_render_lists_what_it_wrote(tiny: Project) -> None:
    """Unchanged files are not touched, and listed as unchanged."""
    tiny.rvrun("render", "local", "tiny.py")
    again = tiny.rvrun("render", "local", "tiny.py", "-a", "top", "1").stderr
    assert again.splitlines() == [
        "written    runs/tiny/plan.json",
        "unchanged  runs/tiny/.gitignore",
        "written    runs/tiny/config/tiny.json",
        "unchanged  runs/tiny/config/tiny/cut.json",
        "unchanged  runs/tiny/config/tiny/count.json",
        "unchanged  runs/tiny/config/tiny/sum.json",
        "written    runs/tiny/config/tiny/show.json",
        *(f"unchanged  runs/tiny/code/tiny/{name}.txt" for name in ("cut", "count", "sum", "show")),
        "unchanged  runs/tiny/Makefile",
    ]


def test_a_saved_config_is_a_config(tiny: Project) -> None:
    """A run directory's saved config can be run, in that run directory, or rendered elsewhere."""
    tiny.rvrun("render", "local", "tiny.py", "--splits", "3")
    done = tiny.rvrun("run", "local", "runs/tiny/config/tiny.json", "--splits", "3")
    assert "8 targets ran; logs in runs/tiny/logs" in done.stderr
    tiny.rvrun("render", "local", "runs/tiny/config/tiny.json", "--splits", "3", "--out", "other")
    for path in ("plan.json", "config/tiny.json", "config/tiny/show.json"):
        assert tiny.read(f"other/{path}") == tiny.read(f"runs/tiny/{path}")


def test_the_same_bytes_everywhere(tiny: Project, tmp_path: pathlib.Path) -> None:
    """Two checkouts, other folders, another user, environment and time: the same bytes."""
    rendered = []
    for number, folder in enumerate(("here", "quite/another place")):
        copy = Project(tmp_path / folder)
        copy.write("examples/tiny.py", tiny.read("tiny.py"))
        env = {"PYTHONHASHSEED": str(number), "TZ": f"UTC+{number}", "USER": f"u{number}"}
        env |= {"HOME": str(tmp_path / str(number)), "LC_ALL": ("C", "C.UTF-8")[number]}
        words = ("render", "local", "examples/tiny.py", "--splits", "7")
        if number and _may_be_nobody(tmp_path):
            _render_as_nobody(copy, words, env)
        else:
            copy.rvrun(*words, code=0, **env)
        run_dir = copy.folder / "runs/tiny"
        files = (path for path in run_dir.rglob("*") if path.is_file() and path.name != ".lock")
        rendered.append(
            {
                str(path.relative_to(run_dir)): path.read_bytes()
                for path in files
                if "records" not in path.parts
            }
        )
    assert rendered[0] == rendered[1]
    assert len(rendered[0]) == 12


NOBODY = 65534


def _may_be_nobody(folder: pathlib.Path) -> bool:
    """Whether this process may become another user, who can read rvrun and `folder`."""
    if os.geteuid() != 0:
        return False
    for parent in (folder, *folder.parents):
        if parent.is_relative_to("/tmp") and parent.name != "tmp":
            parent.chmod(0o777)
    rvrun = shutil.which("rvrun", path=clean_environment()["PATH"])
    try:
        done = subprocess.run(
            [str(rvrun), "--version"], user=NOBODY, env=clean_environment(), check=False
        )
    except PermissionError:
        return False
    return done.returncode == 0


def _render_as_nobody(copy: Project, words: tuple[str, ...], env: dict[str, str]) -> None:
    for path in (copy.folder, copy.folder / "examples"):
        path.chmod(0o777)
    subprocess.run(
        ["rvrun", *words], cwd=copy.folder, env=clean_environment(**env), user=NOBODY, check=True
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("plan", "args.py"), f"argument `title` is missing: add -a title VALUE; {TAKES}"),
        (
            ("plan", "args.py", "-a", "title", "x", "-a", "cuont", "2"),
            "unknown argument `cuont` in -a cuont 2 for `get_config` of args.py; did you mean "
            "`count`? Known arguments: `count`, `fast`, `title`",
        ),
        (
            ("plan", "args.py", "-a", "title", "x", "-a", "count", "two"),
            f"-a count two: is not an integer; {TAKES}",
        ),
        (
            ("plan", "args.py", "-a", "title", "x", "-a", "fast", "maybe"),
            f"-a fast maybe: must be true or false; {TAKES}",
        ),
        (
            ("plan", "args.py", "-a", "title=x", "fast"),
            "-a title=x fast: KEY must be a parameter's name; write -a KEY VALUE",
        ),
        (
            ("plan", "args.py", "-a", "title", "x", "-a", "title", "y"),
            "-a title is given twice, as x and as y; keep one",
        ),
        (("plan", "nowhere.py"), "cannot import `FOLDER/nowhere.py`: there is no such file"),
        (("plan", "nowhere"), "cannot import `nowhere`: there is no such module"),
        (
            ("plan", "nowhere.json"),
            "nowhere.json: cannot be read: No such file or directory; name another file, or make "
            "it readable",
        ),
        (
            ("plan", "args.py", "-a", "title", "x", "-s", "0"),
            "--splits 0: the number must be between 1 and 10,000,000",
        ),
        (
            ("plan", "args.py", "-a", "title", "x", "wrok"),
            "unknown command `wrok`; did you mean `work`? Known commands: `work`",
        ),
        (
            ("run", "lokal", "args.py", "-a", "title", "x"),
            "unknown runner `lokal`; did you mean `local`? Known runners: `batch`, `inprocess`, "
            "`local`, `sagemaker`, `slurm`",
        ),
        (
            ("plan", "args.py", "-a", "title", "x", "--out", ""),
            "--out must name a directory, got an empty string",
        ),
        (
            ("run_command", "nowhere.json", "work"),
            "nowhere.json: cannot be read: No such file or directory; name another file, or make "
            "it readable",
        ),
        (("run_command", "c.json", "wrok"), "unknown command `wrok` in pipeline `Args`"),
        (
            ("run_command", "c.json", "work", "--num-splits", "2"),
            "run_command work: --num-splits requires --split-ind; give both",
        ),
        (
            ("run_command", "c.json", "work", "--split-ind", "2"),
            "run_command work: --split-ind requires --num-splits; give both",
        ),
        (
            ("run_command", "c.json", "work", "--split-ind", "2", "--num-splits", "2"),
            "run_command work: --split-ind must be between 0 and 1, got 2",
        ),
        (
            ("run_command", "c.json", "work", "--split-ind", "0", "--num-splits", "2"),
            "run_command work: --split-ind and --num-splits are for split commands, and "
            "`split_commands` of `Args` does not list it",
        ),
        (
            ("run_command", "c.json", "work", "--runner", "nobody"),
            "unknown runner `nobody`; known runners: `batch`, `inprocess`, `local`, `sagemaker`, "
            "`slurm`",
        ),
    ],
)
def test_wrong_input(project: Project, words: tuple[str, ...], message: str) -> None:
    """One clear sentence with the value, its place and the fix; exit 2; no traceback."""
    project.write("args.py", ARGS)
    if "c.json" in words:
        project.rvrun("render", "local", "args.py", "-a", "title", "x")
        shutil.copy(project.folder / "runs/args/config/args.json", project.folder / "c.json")
    done = project.rvrun(*words, code=2)
    assert done.stdout == ""
    error = done.stderr.replace(str(project.folder), "FOLDER")
    assert error.startswith(f"rvrun: {message}")
    assert error.count("\n") == 1


def test_user_code_that_raises(project: Project) -> None:
    """The user's own traceback, from their first frame on, then one sentence; exit 2."""
    project.write("args.py", ARGS)
    done = project.rvrun("plan", "args.py", "-a", "title", "x", "-a", "count", "13", code=2)
    assert done.stderr.startswith("Traceback (most recent call last):\n")
    sentence = "rvrun: building pipeline `args` raised RuntimeError: no thirteen"
    assert done.stderr.splitlines()[-1] == sentence
    assert "in build" in done.stderr.splitlines()[1]
    assert "/rvrun/load/" not in done.stderr


def test_a_value_that_the_config_refuses(project: Project) -> None:
    """One sentence, without a traceback that ends in the library of the rule; exit 2."""
    file = project.write("args.py", ARGS)
    line = 1 + file.read_text().splitlines().index(
        next(text for text in ARGS.splitlines() if "return ArgsConfig(" in text)
    )
    done = project.rvrun("plan", "args.py", "-a", "title", "x", "-a", "count", "0", code=2)
    problem = "`ArgsConfig.count` must be >= 1, got 0; change -a count"
    assert done.stderr == f"rvrun: args.py:{line}: {problem}\n"


def test_a_syntax_error_is_shown_where_it_is(project: Project) -> None:
    """A file with a syntax error is shown with its line, and without frames of rvrun's."""
    file = project.write("odd.py", "x = (1,\n")
    done = project.rvrun("plan", "odd.py", code=2)
    assert done.stderr.startswith(f'  File "{file}", line 1\n')
    assert "SyntaxError: '(' was never closed" in done.stderr


def test_as_a_module(tiny: Project) -> None:
    """`python -m rvrun` is rvrun, also for the worker."""
    tiny.run("python", "-m", "rvrun", "render", "local", "tiny.py", "--splits", "2")
    config = "runs/tiny/config/tiny.json"
    done = tiny.run(
        "python",
        "-m",
        "rvrun",
        "run_command",
        config,
        "cut",
        "--split-ind",
        "1",
        "--num-splits",
        "2",
    )
    assert (done.stdout, done.stderr) == ("", "")
    assert json.loads(tiny.read("out/tiny/words-3.json"))[0] == "where"


def test_run_command_by_hand_leaves_the_run_directory_alone(tiny: Project) -> None:
    """A target run by hand writes no record and no stamp: make still has it to do."""
    tiny.rvrun("render", "local", "tiny.py", "--splits", "2")
    config = "runs/tiny/config/tiny.json"
    tiny.rvrun("run_command", config, "cut", "--split-ind", "0", "--num-splits", "2")
    assert not (tiny.folder / "runs/tiny/records/tiny").exists()
    assert not (tiny.folder / "runs/tiny/done").exists()


def test_a_symbolic_link_as_run_directory(tiny: Project) -> None:
    """A run directory on another disk, behind a link, finds its way back."""
    elsewhere = tiny.folder / "disk" / "deep"
    elsewhere.mkdir(parents=True)
    (tiny.folder / "runs").symlink_to(elsewhere)
    tiny.rvrun("run", "local", "tiny.py", "--splits", "2")
    tiny.make("-C", "runs/tiny", "clean")
    tiny.make("-j2", "-C", "runs/tiny")
    assert tiny.read("out/tiny/total.json")


@pytest.mark.parametrize(
    ("config", "out", "expected"),
    [
        ("examples/tiny.py", None, "runs/tiny"),
        ("pkg.sub.mod", None, "runs/mod"),
        ("mod", None, "runs/mod"),
        ("saved.json", None, "runs/saved"),
        ("a/b/config/tiny.json", None, "a/b"),
        ("tiny.py", "x/../y/", "y"),
        ("tiny.py", "-x", "./-x"),
        ("tiny.py", "../up", "../up"),
    ],
)
def test_run_directories(config: str, out: str | None, expected: str) -> None:
    """The run directory as named, or named after the config."""
    assert run_dir_of(config, out) == expected


def test_an_absolute_run_directory_is_made_relative(in_folder: pathlib.Path) -> None:
    """Plans hold no absolute path of one machine."""
    assert run_dir_of("tiny.py", str(in_folder / "x")) == "x"
    assert run_dir_of("tiny.py", str(in_folder.parent / "x")) == os.path.join("..", "x")


def test_arguments_are_two_words(project: Project) -> None:
    """`-a KEY VALUE` takes VALUE as it is, whatever it looks like."""
    loud = ARGS.replace("    return ArgsConfig", "    print([title]); return ArgsConfig")
    project.write("args.py", loud)
    for title in ("a=b", "-5", "--splits", "", "--"):
        done = project.rvrun("graph", "args.py", "-a", "title", title, "--arg", "count", "2")
        assert done.stderr == f"{[title]}\n"


def test_two_experiments_of_landcover_are_one_plan(project: Project) -> None:
    """The landcover example exports two configs, which are planned side by side."""
    shutil.copytree(ROOT / "examples", project.folder / "examples")
    shown = project.rvrun("plan", "examples/landcover.py", "--splits", "4", "-a", "compare", "true")
    assert shown.stdout.splitlines()[-1] == (
        "forest, logistic: 24 targets in 12 stages; 24 would run"
    )


def test_what_a_config_prints_goes_to_stderr(tiny: Project) -> None:
    """Only data is on stdout, whatever the user's code prints while it is loaded."""
    tiny.write("loud.py", tiny.read("tiny.py") + "print('loaded')\n")
    done = tiny.rvrun("graph", "loud.py")
    assert done.stdout.startswith("flowchart LR\n")
    assert done.stderr == "loaded\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ("run", "local", "tiny.py", "--wait"),
            "`--wait` only works with detached runners; `local` runs on this machine",
        ),
        (
            ("run", "inprocess", "tiny.py", "--run-name", "x"),
            "`--run-name` only works with detached runners; `inprocess` runs on this machine",
        ),
        (
            # The name that Raster Vision gives the same option.
            ("run", "inprocess", "tiny.py", "--pipeline-run-name", "x"),
            "`--run-name` only works with detached runners; `inprocess` runs on this machine",
        ),
        (
            ("run", "batch", "tiny.py", "-a", "root_uri", "s3://b/t", "-j2"),
            "`--jobs` only works with runners on this machine; `batch` runs are detached",
        ),
        (
            ("run", "batch", "tiny.py", "-k"),
            "`--keep-going` requires a runner that supports it (inprocess, local); `batch` cannot",
        ),
        (
            ("run", "local", "tiny.py", "--pdb"),
            "`--pdb` requires a runner with a debugger (inprocess); `local` has none",
        ),
        (
            ("status",),
            "nothing has run in the run directories in runs; start a run with `rvrun run`",
        ),
        (
            ("status", "--watch", "--json"),
            "--watch and --json cannot be combined; keep one",
        ),
    ],
)
def test_options_that_do_not_fit_are_refused(
    tiny: Project, words: tuple[str, ...], message: str
) -> None:
    """An option that has no effect is an error."""
    tiny.write("rvrun.toml", '[batch]\ncpu_job_queue = "cpu"\ncpu_job_def = "work"\n')
    assert tiny.rvrun(*words, code=2).stderr == f"rvrun: {message}\n"


BATCH = '[batch]\ncpu_job_queue = "cpu"\ncpu_job_def = "work"\n'
BELONGS = (
    "rvrun: run directory {out} belongs to runner `{other}`, whose files in it would no longer "
    "match its configs; choose another directory with --out {out}-{runner}\n"
)


@pytest.mark.parametrize(
    "words", [("render", "batch", "tiny.py"), ("plan", "tiny.py", "--runner", "batch", "--out")]
)
def test_a_run_directory_belongs_to_its_runner(tiny: Project, words: tuple[str, ...]) -> None:
    """Another runner would change its configs, after which plain make fails."""
    tiny.write("rvrun.toml", BATCH)
    tiny.rvrun("run", "local", "tiny.py", "--splits", "2")
    before = tiny.read("runs/tiny/config/tiny.json")
    out = ("runs/tiny",) if words[-1] == "--out" else ()
    done = tiny.rvrun(*words, *out, "-a", "root_uri", "s3://b/t", "--splits", "2", code=2)
    # `plan` compares with what was done, and already refuses the other root.
    refused = BELONGS.format(out="runs/tiny", other="local", runner="batch")
    assert done.stderr == refused or "has finished targets of pipeline `tiny`" in done.stderr
    assert not (tiny.folder / "runs/tiny/batch").exists()
    assert tiny.read("runs/tiny/config/tiny.json") == before
    assert "Nothing to be done" in tiny.make("-C", "runs/tiny").stdout


def test_the_files_of_a_detached_runner_are_kept_too(tiny: Project) -> None:
    """What was rendered for review is not changed by a run on this machine."""
    tiny.write("rvrun.toml", BATCH)
    tiny.rvrun("render", "batch", "tiny.py", "-a", "root_uri", "s3://b/t")
    for runner in ("local", "inprocess"):
        done = tiny.rvrun("run", runner, "tiny.py", code=2)
        assert done.stderr == BELONGS.format(out="runs/tiny", other="batch", runner=runner)


def test_runners_that_keep_stamps_share_a_run_directory(tiny: Project) -> None:
    """They continue each other's runs."""
    tiny.rvrun("run", "inprocess", "tiny.py", "cut", "--splits", "2")
    done = tiny.rvrun("run", "local", "tiny.py", "-a", "top", "1", "--splits", "2")
    assert "4 targets ran, 2 up to date" in done.stderr


def test_a_plan_for_several_runners_is_one_directory(tiny: Project) -> None:
    """Their files are written together, and one runner's alone while the configs stay the same."""
    tiny.write("rvrun.toml", BATCH)
    words = ("plan", "tiny.py", "--out", "plans/tiny", "-a", "root_uri", "s3://b/t")
    both = ("--runner", "batch", "--runner", "local")
    tiny.rvrun(*words, *both)
    tiny.rvrun(*words, *both, "--splits", "3")
    tiny.rvrun(*words, "--runner", "batch", "--splits", "3")
    assert tiny.read("plans/tiny/Makefile")
    refused = tiny.rvrun(*words, "--runner", "batch", "--splits", "4", code=2).stderr
    assert refused == BELONGS.format(out="plans/tiny", other="local", runner="batch")
