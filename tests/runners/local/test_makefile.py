"""The rendered Makefile: its exact text, and what make does with it."""

from __future__ import annotations

import json
import pathlib
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable

import pytest
from hypothesis import example, given, settings

from rvrun.plan.compile import compile_plan
from rvrun.plan.splits import parse_splits
from rvrun.render.jinja import BadTemplate
from rvrun.render.quote import Unquotable
from rvrun.runners.local.makefile import render_makefile
from tests.build import pipeline
from tests.conftest import ROOT, Project, clean_environment
from tests.render.test_quote import strings

ODD = "a  b$c#d'e\"f%g;hüi=j&k(l)[m]*?!~"


def test_golden_of_a_raster_pipeline(golden: Callable[[str, str], None]) -> None:
    """Split, joined and GPU stages."""
    commands = ("analyze", "chip*", "train", "predict*", "eval", "bundle")
    declared = pipeline("rv", *commands, gpu=("train", "predict"))
    plan = compile_plan([declared], splits=parse_splits(["4", "predict=16"]))
    golden("raster.mk", render_makefile(plan, out="runs/rv", workdir="../.."))


def test_golden_of_a_dag_of_two_pipelines(golden: Callable[[str, str], None]) -> None:
    """Aligned needs, stages with several needs, and a second pipeline."""
    first = pipeline(
        "first",
        "fetch*",
        "clean*",
        "train",
        "report",
        needs={"fetch": [], "clean": ["=fetch"], "train": ["clean"], "report": ["fetch", "train"]},
    )
    plan = compile_plan([first, pipeline("second", "only")], splits=parse_splits(["3"]))
    golden("dag.mk", render_makefile(plan, out="build", workdir=".."))


def test_golden_of_declared_files(golden: Callable[[str, str], None]) -> None:
    """Inputs are prerequisites where make can have them, and outputs are looked for."""
    declared = pipeline(
        "land",
        "chip*",
        "train",
        "mosaic*",
        "publish",
        inputs={
            "chip": ["data/a.tif", "data/b c.tif", "data/*.json", "s3://bucket/x"],
            "train": ["out/chips/*.npy", "/data/labels"],
            "publish": ["out/model.pkl"],
        },
        outputs={
            "chip": ["out/chips/{split_ind}.npy", "out/log/{split_ind}-*"],
            "train": ["out/model.pkl", "out/**/x", "s3://bucket/model"],
            "mosaic": ["out/{split_ind}.vrt", "out/all-of-{num_splits}.vrt"],
            "publish": ["out/my file"],
        },
    )
    plan = compile_plan([declared], splits=parse_splits(["4"]))
    golden("files.mk", render_makefile(plan, out="runs/land", workdir="../.."))


def test_many_inputs_of_many_splits_are_left_to_the_fingerprint() -> None:
    """Make would read a line for each split and each file."""
    files = [f"data/{number}" for number in range(1_001)]
    plan = compile_plan(
        [pipeline("p", "a*", "b", needs={"b": []}, inputs={"a": files, "b": files})],
        splits=parse_splits(["100"]),
    )
    text = render_makefile(plan, out="runs/p", workdir="../..")
    rules = [line for line in text.splitlines() if line.startswith(("$(p/a.splits)", "done/p/b:"))]
    assert [rule.count("data/") for rule in rules] == [0, 1_001]


def test_golden_of_odd_paths(golden: Callable[[str, str], None]) -> None:
    """Paths are quoted for the shell, then for make, and only if they have to be."""
    plan = compile_plan([pipeline("p", "a")])
    golden("odd.mk", render_makefile(plan, out=ODD, workdir="../$(x) y"))


def test_a_line_break_in_a_path_is_refused() -> None:
    """A recipe cannot contain a line break, so such a path is refused."""
    with pytest.raises(Unquotable, match=r"a line break, got 'a\\nb/config/p.json'"):
        render_makefile(compile_plan([pipeline("p", "a")]), out="a\nb")


SHOW = "import json, os, sys; print(json.dumps([os.getcwd(), *sys.argv[1:]]))"


@given(strings, strings.filter(lambda name: name.strip("./") and "/" not in name))
@example("#", "a # b")
@example("\\#", "-x")
@example("$(shell echo no)", " ")
@settings(max_examples=30)
@pytest.mark.usefixtures("processes")
def test_hostile_paths_arrive_as_they_are(out: str, workdir: str) -> None:
    """Whatever the run directory and the working directory are called, commands get their names."""
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name).resolve()
        (folder / workdir).mkdir()
        plan = compile_plan([pipeline("p", "a*", "b")], splits=parse_splits(["1"]))
        text = render_makefile(plan, out=out, workdir=workdir)
        (folder / "Makefile").write_bytes(text.encode())
        (folder / "config").mkdir()
        (folder / "config/p.json").touch()
        done = subprocess.run(
            ["make", "-s", f"RVRUN={shlex.join([sys.executable, '-I', '-S', '-c', SHOW])}"],
            cwd=folder,
            env=clean_environment(),
            capture_output=True,
            check=True,
        )
    start = [str(folder / workdir), "run_command", f"{out}/config/p.json"]
    assert [json.loads(line) for line in done.stdout.splitlines()] == [
        [*start, "a", "--split-ind", "0", "--num-splits", "1"],
        [*start, "b"],
    ]


def test_length_does_not_grow_with_splits() -> None:
    """For 10 and for 1,000 splits the lines are the same, except for the list of indices."""
    few, many = (
        render_makefile(compile_plan([pipeline("p", "a*", "b*")], splits=parse_splits([n])))
        for n in ("10", "1000")
    )
    assert len(few.splitlines()) == len(many.splitlines())
    indices = " ".join(map(str, range(1000)))
    assert (
        many.replace(indices, " ".join(map(str, range(10))))
        .replace("1000", "10")
        .replace("2,000", "20")
        .replace("1,000", "10")
        == few
    )


def test_makefile_example_is_what_is_rendered(tiny: Project) -> None:
    """Makefile.example is the Makefile of the tiny example, byte for byte."""
    tiny.write("examples/tiny.py", tiny.read("tiny.py"))
    tiny.rvrun("render", "local", "examples/tiny.py", "--splits", "4")
    assert tiny.read("runs/tiny/Makefile") == (ROOT / "Makefile.example").read_text()


def _targets(printed: str) -> list[str]:
    """Return the command and the split index of each target that make printed, sorted."""
    pairs = re.findall(r"run_command \S+ (\w[\w-]*)(?: --split-ind (\d+))?", printed)
    return sorted("/".join(filter(None, pair)) for pair in pairs)


ALL = ["count/0", "count/1", "count/2", "cut/0", "cut/1", "cut/2", "show", "sum"]


@pytest.fixture
def rendered(tiny: Project) -> Project:
    """Render the tiny example with three splits."""
    tiny.rvrun("render", "local", "tiny.py", "--splits", "3")
    return tiny


def test_make_in_the_run_directory(rendered: Project) -> None:
    """`cd DIR && make -j8` runs all targets; after that, all are up to date."""
    assert _targets(rendered.make("-j8", cwd="runs/tiny").stdout) == ALL
    assert "Nothing to be done" in rendered.make("-j8", cwd="runs/tiny").stdout
    assert rendered.read("out/tiny/total.json")


def test_make_with_c(rendered: Project) -> None:
    """`make -C DIR` runs all targets."""
    assert _targets(rendered.make("-j8", "-C", "runs/tiny").stdout) == ALL


@pytest.mark.parametrize("cwd", [".", "runs", "/"])
def test_make_with_f(rendered: Project, cwd: str) -> None:
    """`make -f DIR/Makefile` runs all targets, whatever the current directory is."""
    makefile = str(rendered.folder / "runs/tiny/Makefile") if cwd == "/" else "tiny/Makefile"
    makefile = "runs/tiny/Makefile" if cwd == "." else makefile
    assert _targets(rendered.make("-j8", "-f", makefile, cwd=cwd).stdout) == ALL


def test_make_with_f_and_several_goals(rendered: Project) -> None:
    """What several goals need runs once."""
    done = rendered.make("-j8", "-f", "runs/tiny/Makefile", "tiny/count", "tiny/cut")
    assert _targets(done.stdout) == ALL[:6]


#: Names of directories, with the characters that are special to make, to the shell or in a path.
NAMES = (
    *("a b", "  ", "a ", "%", "a#b", "a:b", ";", "$", "$(x)", "${x}", "it's", '"', "`x`", "a\\b"),
    *("\n", "a\nb\n", "-x", "=", "(,)", "&|<>", "*", "~", "a Makefile", "Makefile", "ü"),
)


@pytest.mark.parametrize("name", NAMES)
def test_make_with_f_in_an_odd_directory(rendered: Project, name: str) -> None:
    """`make -f DIR/Makefile` passes goals, flags and variables on, whatever DIR is called."""
    (rendered.folder / "runs").rename(rendered.folder / name)
    (rendered.folder / "runs").mkdir()
    makefile = f"{rendered.folder}/{name}/tiny/Makefile"
    words = ("-j2", "-f", makefile, "RVRUN=echo", "tiny/count", "tiny/cut/0", "tiny/cut/0")
    assert _targets(rendered.make("-n", *words).stdout) == ALL[:6]
    assert _targets(rendered.make("-s", *words, cwd="runs").stdout) == ALL[:6]
    made = (rendered.folder / name / "tiny/done/tiny").rglob("*")
    assert sorted(path.name for path in made) == ["count.3", "count.all", "cut.3"]
    assert list((rendered.folder / "runs").iterdir()) == []


@pytest.mark.parametrize("words", [("-C", "runs/tiny"), ("-e", "-f", "runs/tiny/Makefile")])
def test_make_does_not_restart_forever(rendered: Project, words: tuple[str, ...]) -> None:
    """Neither MAKEFILES nor variables from the environment make it restart in the directory."""
    other = rendered.write("other.mk", "")
    variables = {"MAKEFILES": str(other)} if "-C" in words else {}
    done = rendered.make("--no-print-directory", *words, "help", code=0, **variables)
    assert done.stdout.startswith("make -j8 ")


def test_make_n_is_truthful(rendered: Project) -> None:
    """`make -n` shows every target that would run, and runs none."""
    assert _targets(rendered.make("-n", "-C", "runs/tiny").stdout) == ALL
    assert _targets(rendered.make("-n", "-f", "runs/tiny/Makefile").stdout) == ALL
    assert not (rendered.folder / "out").exists()
    assert not (rendered.folder / "runs/tiny/done").exists()


def test_make_a_pipeline_a_stage_a_split(rendered: Project) -> None:
    """A goal is a split, a stage or a pipeline, and runs what it needs first."""
    assert _targets(rendered.make("-C", "runs/tiny", "tiny/count/1").stdout) == ["count/1", "cut/1"]
    assert _targets(rendered.make("-C", "runs/tiny", "tiny/cut").stdout) == ["cut/0", "cut/2"]
    assert _targets(rendered.make("-C", "runs/tiny", "tiny").stdout) == [
        "count/0",
        "count/2",
        "show",
        "sum",
    ]
    wrong = rendered.make("-C", "runs/tiny", "tiny/cut/3", code=2)
    assert "No rule to make target 'tiny/cut/3'" in wrong.stderr


def test_make_help(rendered: Project, golden: Callable[[str, str], None]) -> None:
    """`make help` lists and describes every goal."""
    golden("help.txt", rendered.make("help", cwd="runs/tiny").stdout)


def test_make_clean(rendered: Project) -> None:
    """`make clean` removes stamps, records and logs, so that all targets are stale."""
    rendered.make("-j8", "-C", "runs/tiny")
    rendered.make("-C", "runs/tiny", "clean")
    assert sorted(path.name for path in (rendered.folder / "runs/tiny").iterdir()) == [
        ".gitignore",
        ".lock",
        "Makefile",
        "code",
        "config",
        "plan.json",
    ]
    assert _targets(rendered.make("-n", "-C", "runs/tiny").stdout) == ALL


def test_a_new_number_of_splits_runs_the_split_stage_again(tiny: Project) -> None:
    """3 → 2 → 3 splits: each change runs the split stages again, and what depends on them."""
    for splits in ("3", "2", "3"):
        tiny.rvrun("render", "local", "tiny.py", "--splits", splits)
        indices = [str(index) for index in range(int(splits))]
        assert _targets(tiny.make("-j8", "-C", "runs/tiny").stdout) == [
            *(f"count/{index}" for index in indices),
            *(f"cut/{index}" for index in indices),
            "show",
            "sum",
        ]


def test_rendering_another_number_loses_nothing(tiny: Project) -> None:
    """Rendering with another number of splits keeps the stamps; only running removes them."""
    tiny.rvrun("run", "local", "tiny.py", "--splits", "3")
    tiny.rvrun("render", "local", "tiny.py", "--splits", "2")
    tiny.rvrun("render", "local", "tiny.py", "--splits", "3")
    assert _targets(tiny.make("-C", "runs/tiny").stdout) == []


def test_a_changed_config_runs_what_depends_on_it(tiny: Project) -> None:
    """Only commands whose `config_keys` changed run again, and what depends on them."""
    tiny.rvrun("run", "local", "tiny.py", "--splits", "3")
    tiny.rvrun("render", "local", "tiny.py", "--splits", "3")
    assert _targets(tiny.make("-C", "runs/tiny").stdout) == []
    tiny.rvrun("render", "local", "tiny.py", "--splits", "3", "-a", "top", "1")
    assert _targets(tiny.make("-C", "runs/tiny").stdout) == ["show"]


@pytest.mark.parametrize("way", ["-C", "-f", "cd", "run local"])
def test_odd_characters_in_every_path(project: Project, way: str) -> None:
    """The paths of project, run directory and root may contain any character but a line break."""
    odd = Project(project.folder / ODD)
    odd.write("tiny.py", (ROOT / "examples/tiny.py").read_text())
    root, out = f"o {ODD}", f"r {ODD}"
    common = ("local", "tiny.py", "-a", "root_uri", root, "--out", out, "--splits", "2")
    odd.rvrun(*(("run",) if way == "run local" else ("render",)), *common)
    if way == "-C":
        project.make("-j4", "-C", f"{ODD}/{out}")
    elif way == "-f":
        project.make("-j4", "-f", f"{ODD}/{out}/Makefile")
    elif way == "cd":
        odd.make("-j4", cwd=out)
    assert '"the": 6' in odd.read(f"{root}/total.json")
    assert odd.read(f"{out}/records/tiny/count.2/1.jsonl").count("\n") == 2


def test_own_templates_come_first(tiny: Project) -> None:
    """A Makefile.j2 in --templates DIR replaces the built-in one."""
    tiny.write("mine/Makefile.j2", "# mine: {{ pipelines[0].name }}\nall: ; @echo {{ title }}\n")
    tiny.rvrun("render", "local", "tiny.py", "--templates", "mine")
    assert tiny.read("runs/tiny/Makefile").startswith("# mine: tiny\n")


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{{ nothing }}", "template Makefile.j2: 'nothing' is undefined"),
        ("{% for %}", "template mine/Makefile.j2:1: "),
    ],
)
def test_broken_templates_are_named(tiny: Project, template: str, message: str) -> None:
    """An undefined name or a syntax error in a template is an error that names the template."""
    tiny.write("mine/Makefile.j2", template)
    done = tiny.rvrun("render", "local", "tiny.py", "--templates", "mine", code=2)
    assert f"rvrun: {message}" in done.stderr


def test_a_missing_template_folder_is_named() -> None:
    """A folder of templates that does not exist is an error."""
    with pytest.raises(BadTemplate, match="template nowhere: the directory does not exist"):
        render_makefile(compile_plan([pipeline("p", "a")]), templates="nowhere")
