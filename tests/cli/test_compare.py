"""`rvrun diff`, `rvrun plan --check`, `rvrun explain`."""

from __future__ import annotations

import json
import re
import shutil

import pytest

from rvrun.plan.serialize import RENDER
from tests.conftest import ROOT, Project, clean_environment

SPLITS = ("--splits", "3")


def without_times(text: str) -> str:
    text = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", "THEN", text)
    return re.sub(r"\d+ MiB", "N MiB", re.sub(r"\d+\.\d s|\d+ ms|\d+ min \d+ s", "N s", text))


@pytest.fixture
def saved(tiny: Project) -> Project:
    """The tiny example with its plan saved in plans/tiny."""
    tiny.rvrun("plan", "tiny.py", *SPLITS, "--out", "plans/tiny")
    return tiny


def test_check_of_an_unchanged_plan(saved: Project) -> None:
    """Exit 0, nothing on stdout."""
    done = saved.rvrun("plan", "tiny.py", *SPLITS, "--check", "plans/tiny")
    assert (done.stdout, done.stderr) == ("", "plans/tiny is up to date\n")


def test_check_of_a_changed_plan(saved: Project) -> None:
    """Exit 1, the difference on stdout, the files that are stale on stderr; nothing is written."""
    before = {p: p.read_bytes() for p in (saved.folder / "plans").rglob("*") if p.is_file()}
    words = ("plan", "tiny.py", "--splits", "3", "-s", "cut=4", "-s", "count=4", "-a", "top", "1")
    done = saved.rvrun(*words, "--check", "plans/tiny", code=1)
    assert done.stdout == (
        "~ tiny        config: top 3 → 1\n"
        "~ tiny/cut    splits 3 → 4\n"
        "~ tiny/count  splits 3 → 4\n"
        "would run again:\n"
        "  tiny/cut    4 targets, splits changed\n"
        "  tiny/count  4 targets, splits changed\n"
        "  tiny/sum    after count\n"
        "  tiny/show   after sum\n"
    )
    assert done.stderr.startswith("out of date: plans/tiny/plan.json, ")
    assert {p: p.read_bytes() for p in (saved.folder / "plans").rglob("*") if p.is_file()} == before


def test_check_sees_an_edited_makefile(saved: Project) -> None:
    """A rendered file that is not as it would be now is a difference, though the plan is not."""
    makefile = saved.folder / "plans/tiny/Makefile"
    makefile.write_text(makefile.read_text() + "# mine\n")
    done = saved.rvrun("plan", "tiny.py", *SPLITS, "--check", "plans/tiny", code=1)
    assert (done.stdout, done.stderr) == ("", "out of date: plans/tiny/Makefile\n")


def test_a_saved_plan_has_no_config_of_a_removed_pipeline(saved: Project) -> None:
    """Check reports one, and saving again removes it."""
    saved.write("plans/tiny/config/gone.json", "{}\n")
    saved.write("plans/tiny/config/gone/cut.json", "{}\n")
    done = saved.rvrun("plan", "tiny.py", *SPLITS, "--check", "plans/tiny", code=1)
    assert done.stderr == (
        "out of date: plans/tiny/config/gone.json, plans/tiny/config/gone/cut.json\n"
    )
    saved.rvrun("plan", "tiny.py", *SPLITS, "--out", "plans/tiny")
    saved.rvrun("plan", "tiny.py", *SPLITS, "--check", "plans/tiny")
    assert not (saved.folder / "plans/tiny/config/gone.json").exists()


def test_where_something_ran_other_configs_stay(tiny: Project) -> None:
    """One that comes back must not be newer than what was done with it."""
    tiny.rvrun("run", "local", "tiny.py")
    tiny.write("runs/tiny/config/other.json", "{}\n")
    tiny.rvrun("plan", "tiny.py", "--out", "runs/tiny")
    tiny.rvrun("plan", "tiny.py", "--check", "runs/tiny")
    assert (tiny.folder / "runs/tiny/config/other.json").exists()


def test_check_without_a_plan_is_an_error(tiny: Project) -> None:
    """Exit 2 and a sentence."""
    done = tiny.rvrun("plan", "tiny.py", "--check", "nowhere", code=2)
    assert done.stderr == (
        "rvrun: --check must name a directory with a saved plan, got `nowhere`, which does not "
        "exist; save the plan there with `rvrun plan CONFIG --out nowhere`\n"
    )


@pytest.mark.parametrize("old", ["plans/tiny", "plans/tiny/plan.json"])
@pytest.mark.parametrize("new", ["tiny.py", "plans/tiny/config/tiny.json"])
def test_each_side_may_be_a_directory_a_plan_or_a_config(
    saved: Project, old: str, new: str
) -> None:
    """A config, also a saved one, is compiled with the options given."""
    assert saved.rvrun("diff", old, new, *SPLITS).stderr == "the plans are the same\n"
    assert saved.rvrun("-q", "diff", old, new, *SPLITS).stderr == ""
    done = saved.rvrun("diff", old, new, "cut", "count", *SPLITS, code=1)
    assert done.stdout == "- tiny/sum\n- tiny/show\n"
    back = saved.rvrun("diff", new, old, "--splits", "2", code=1)
    assert back.stdout.startswith("~ tiny/cut    splits 2 → 3\n~ tiny/count  splits 2 → 3\n")


def test_a_side_that_does_not_exist_is_an_error(saved: Project) -> None:
    """A mistyped run directory is reported as such, not as a module that cannot be imported."""
    assert saved.rvrun("diff", "plans/tiny", "plans/tniy", code=2).stderr == (
        "rvrun: plans/tniy is not a plan that this rvrun can read: there is no such run "
        f"directory, file or config; {RENDER}\n"
    )


def test_a_plan_alone_shows_that_the_config_changed(saved: Project) -> None:
    """Without the configs beside it, a plan has only their digests."""
    shutil.copy(saved.folder / "plans/tiny/plan.json", saved.folder / "alone.json")
    done = saved.rvrun("diff", "alone.json", "tiny.py", *SPLITS, "-a", "top", "1", code=1)
    assert re.fullmatch(
        r"~ tiny  config sha256:\w{12} → sha256:\w{12}", done.stdout.splitlines()[0]
    )


def test_formats(saved: Project) -> None:
    """JSON, Markdown and GitHub's annotations; one at a time."""
    words = ("diff", "plans/tiny", "tiny.py", *SPLITS, "-a", "top", "1")
    assert json.loads(saved.rvrun(*words, "--json", code=1).stdout)["changes"][0]["new"] == 1
    assert "| ~ | `tiny` | config: top 3 → 1 |" in saved.rvrun(*words, "--markdown", code=1).stdout
    assert "::notice title=plan changed::" in saved.rvrun(*words, "--github", code=1).stdout
    two = saved.rvrun(*words, "--github", "--json", code=2)
    assert two.stderr == "rvrun: --json and --github are different formats; keep one\n"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[1, 2", "it is not JSON (Expecting ',' delimiter: line 1 column 6 (char 5))"),
        ('{"a": 1}', "it has no `rvrun_plan` version"),
        ('{"rvrun_plan": 9, "pipelines": []}', "it has version 9, this rvrun reads version 1"),
        ('{"rvrun_plan": 1}', "it has no 'pipelines'"),
    ],
)
def test_a_file_that_is_not_a_plan_is_one_sentence(saved: Project, text: str, problem: str) -> None:
    """Truncated JSON, other JSON, a newer version: exit 2."""
    saved.write("odd.json", text)
    done = saved.rvrun("diff", "odd.json", "plans/tiny", code=2)
    message = f"odd.json is not a plan that this rvrun can read: {problem}; {RENDER}"
    assert done.stderr == f"rvrun: {message}\n"
    assert done.stdout == ""


def test_explain_what_was_never_done(saved: Project) -> None:
    """What would run, what it needs, and what needs it."""
    done = saved.rvrun("explain", "tiny/count", "--run", "plans/tiny")
    assert without_times(done.stdout) == (
        "tiny/count would run (3 of 3 targets): not done yet\n"
        "  done       never\n"
        "  needs      tiny/cut/0: would run first\n"
        "  reads      min_length (changed THEN)\n"
        "  code       changed THEN\n"
        "  needed by  tiny/sum, tiny/show\n"
        "  plan       plans/tiny/plan.json, as saved\n"
    )


def test_explain_through_a_run(tiny: Project) -> None:
    """Up to date, then a config key changed, then a need is newer, then a failure."""
    tiny.rvrun("run", "local", "tiny.py", *SPLITS)
    assert without_times(tiny.rvrun("explain", "tiny/show").stdout) == (
        "tiny/show is up to date\n"
        "  done       THEN\n"
        "  last run   exit 0 after N s\n"
        "  memory     N MiB at its peak, N MiB of them shared\n"
        "  needs      tiny/sum: done THEN\n"
        "  reads      top (changed THEN)\n"
        "  code       changed THEN\n"
        "  needed by  nothing\n"
        "  plan       runs/tiny/plan.json, as saved\n"
    )
    tiny.rvrun("render", "local", "tiny.py", *SPLITS, "-a", "top", "9")
    tiny.rvrun("render", "local", "tiny.py", *SPLITS, "-a", "top", "8")
    assert "  changed    top: 3 → 8\n" in tiny.rvrun("explain", "tiny/show").stdout
    (tiny.folder / "runs/tiny/done/tiny/cut.3/1").unlink()
    assert without_times(tiny.rvrun("explain", "tiny/sum").stdout).splitlines()[:5] == [
        "tiny/sum would run: after count",
        "  done       THEN",
        "  last run   exit 0 after N s",
        "  memory     N MiB at its peak, N MiB of them shared",
        "  needs      tiny/count: would run first",
    ]
    assert tiny.rvrun("explain", "tiny/count/0").stdout.startswith("tiny/count/0 is up to date\n")
    split = tiny.rvrun("explain", "tiny/count/1").stdout
    assert split.startswith("tiny/count/1 would run: after cut/1\n")
    shown = json.loads(tiny.rvrun("explain", "tiny/count/1", "--json").stdout)
    assert (shown["would_run"], shown["reason"], shown["tries"]) == (True, "after cut/1", 1)


def test_explain_a_config(tiny: Project) -> None:
    """With CONFIG it explains what `plan` shows, with the same options; nothing is written."""
    tiny.rvrun("run", "local", "tiny.py", *SPLITS)
    before = tiny.read("runs/tiny/plan.json"), tiny.read("runs/tiny/config/tiny.json")
    shown = without_times(
        tiny.rvrun("explain", "tiny/show", "tiny.py", *SPLITS, "-a", "top", "9").stdout
    )
    assert shown.splitlines()[0] == "tiny/show would run: config changed: top"
    assert "  changed    top: 3 → 9\n" in shown
    assert "  reads      top (would change)\n" in shown
    assert shown.splitlines()[-1] == "  plan       tiny.py, in runs/tiny"
    more = tiny.rvrun("explain", "tiny/count", "tiny.py", "--splits", "5").stdout
    assert more.startswith("tiny/count would run (5 of 5 targets): splits changed: 3 → 5\n")
    elsewhere = tiny.rvrun("explain", "tiny/sum", "tiny.py", "--out", "new").stdout
    assert elsewhere.endswith("  plan       tiny.py, in new\n")
    assert before == (tiny.read("runs/tiny/plan.json"), tiny.read("runs/tiny/config/tiny.json"))


@pytest.mark.parametrize("option", [("--splits", "2"), ("-a", "top", "9")])
def test_options_of_a_config_need_one(tiny: Project, option: tuple[str, ...]) -> None:
    """Without CONFIG they would have no effect."""
    assert tiny.rvrun("explain", "tiny/show", *option, code=2).stderr == (
        f"rvrun: {option[0]} requires a config; add it: rvrun explain tiny/show CONFIG\n"
    )


FAILS = """
    def show(self):
        raise SystemExit(7)

    def cut(self, split_ind=0, num_splits=1):
        if split_ind:
            raise SystemExit(5)

    def save(self,"""


def test_a_target_that_failed_is_not_called_undone(tiny: Project) -> None:
    """`plan` and `explain` say when it failed, and its exit code; a success removes that."""
    tiny.rvrun("run", "local", "tiny.py", *SPLITS)
    good = tiny.read("tiny.py")
    tiny.write(
        "tiny.py",
        good.replace("    def show(", "    def old(").replace("    def save(self,", FAILS, 1),
    )
    for stamp in ("show", "cut.3/1", "cut.3/2"):
        (tiny.folder / "runs/tiny/done/tiny" / stamp).unlink()
    tiny.rvrun("run", "local", "tiny.py", *SPLITS, "-k", code=1)
    shown = without_times(tiny.rvrun("plan", "tiny.py", *SPLITS).stdout).splitlines()
    assert shown[2].endswith("   2 of 3      split 1 failed THEN (exit 5), 1 more")
    tiny.rvrun("run", "local", "tiny.py", "show", code=1)
    shown = without_times(tiny.rvrun("plan", "tiny.py", *SPLITS).stdout).splitlines()
    assert shown[5].endswith("   run         failed THEN (exit 7)")
    explained = without_times(tiny.rvrun("explain", "tiny/show", "tiny.py", *SPLITS).stdout)
    assert explained.startswith(
        "tiny/show would run: failed THEN (exit 7)\n"
        "  done       never\n"
        "  last run   exit 7 after N s (attempt 2)\n"
    )
    split = without_times(tiny.rvrun("explain", "tiny/cut/2", "tiny.py", *SPLITS).stdout)
    assert split.startswith("tiny/cut/2 would run: split 2 failed THEN (exit 5)\n")
    tiny.write("tiny.py", good)
    tiny.rvrun("run", "local", "tiny.py", *SPLITS)
    assert "failed" not in tiny.rvrun("plan", "tiny.py", *SPLITS).stdout


def test_what_is_forced_is_called_forced(tiny: Project) -> None:
    """Not `config changed`; what was never done is not done yet."""
    tiny.rvrun("run", "local", "tiny.py", "cut", "count", *SPLITS)
    for words in (("plan", "tiny.py", "-B"), ("run", "local", "tiny.py", "--dry-run", "-B")):
        lines = tiny.rvrun(*words, *SPLITS).stdout.splitlines()[2:-1]
        reasons = [line.split("   ")[-1].strip() for line in lines]
        assert reasons == ["forced by -B", "forced by -B", "not done yet", "not done yet"]


def test_the_summary_of_a_run_has_its_peak_memory(tiny: Project) -> None:
    """Of the largest target."""
    done = tiny.rvrun("run", "local", "tiny.py").stderr.splitlines()[-1]
    assert re.search(r"; peak memory \d+ MiB \(tiny/\w+(/0)?\)$", done)
    assert "memory" not in tiny.rvrun("run", "inprocess", "tiny.py", "-B").stderr


def test_plan_shows_the_same_reason(tiny: Project) -> None:
    """The table names the keys that changed, also before anything is written."""
    tiny.rvrun("run", "local", "tiny.py", *SPLITS)
    shown = tiny.rvrun("plan", "tiny.py", *SPLITS, "-a", "top", "9").stdout
    assert shown.splitlines()[5].split("   ")[-1].strip() == "config changed: top"


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (
            "tiny/shw",
            "unknown command `shw` in pipeline `tiny`; did you mean `show`? Known commands: `cut`, "
            "`count`, `sum`, `show`",
        ),
        ("tiny", "unknown target `tiny`: name a command too, such as tiny/cut"),
        (
            "tiny.py",
            "TARGET must be a target such as tiny/train, got tiny.py, which looks like a config; "
            "write `rvrun explain TARGET CONFIG`",
        ),
        ("tiny/cut/3", "unknown target `tiny/cut/3`: `cut` has splits 0 to 2"),
        ("tiny/sum/0", "unknown target `tiny/sum/0`: `sum` is not split"),
        (
            "tinny/cut",
            "no run directory in runs/ has a pipeline `tinny` (searched: runs/tiny); specify one "
            "with --run DIR",
        ),
        (
            "cut/1",
            "TARGET must begin with a pipeline, got `cut/1`; did you mean `tiny/cut/1`?",
        ),
    ],
)
def test_what_cannot_be_explained(tiny: Project, target: str, message: str) -> None:
    """Names of targets that do not exist: one sentence, exit 2."""
    tiny.rvrun("render", "local", "tiny.py", *SPLITS)
    assert tiny.rvrun("explain", target, code=2).stderr == f"rvrun: {message}\n"


def test_the_ci_recipe(project: Project) -> None:
    """The three lines of shell of docs/ci.md: unchanged passes, a changed count fails with 1."""
    shutil.copytree(ROOT / "examples", project.folder / "examples")
    page = (ROOT / "docs/ci.md").read_text(encoding="utf-8")
    save, check = re.findall(r"^```sh\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)[:2]
    project.run("sh", "-ec", save)
    # rvrun is already installed, so the package index is not used.
    assert len(check.splitlines()) == 3
    script = check.splitlines()[2].replace(".venv/bin/", "")
    assert project.run("sh", "-ec", script).stdout == ""
    changed = script.replace("--splits 4", "--splits predict=8")
    assert changed != script
    done = project.run("sh", "-ec", changed, code=1)
    assert "~ landcover/predict  splits 4 → 8\n" in done.stdout


def test_the_workflow_runs_the_same_command() -> None:
    """The GitHub workflow runs the same command as the three lines."""
    workflow = (ROOT / "examples/ci/plan.yml").read_text(encoding="utf-8")
    assert "rvrun plan examples/landcover.py --splits 4 --check plans/landcover" in workflow
    assert "--markdown" in workflow
    assert "\t" not in workflow


def test_no_color(tiny: Project) -> None:
    """NO_COLOR and pipes have no escape sequences."""
    for env in ({}, {"NO_COLOR": "1"}):
        assert "\x1b" not in tiny.rvrun("plan", "tiny.py", code=0, **env).stdout


def test_svg(tiny: Project) -> None:
    """Graphviz draws it where it is installed."""
    if shutil.which("dot"):
        assert "<svg" in tiny.rvrun("graph", "tiny.py", "-f", "svg").stdout


def test_svg_without_graphviz(tiny: Project) -> None:
    """One sentence with the fix, exit 2."""
    rvrun = shutil.which("rvrun", path=clean_environment()["PATH"])
    assert rvrun is not None
    done = tiny.run(rvrun, "graph", "tiny.py", "-f", "svg", code=2, PATH="/nowhere")
    assert done.stderr.startswith("rvrun: graphviz is not installed (no `dot` on PATH); install it")


def test_a_plan_is_rendered_for_several_runners(tiny: Project) -> None:
    """All their files are in one directory and checked together; one stale file is a difference."""
    tiny.write("rvrun.toml", '[batch]\ncpu_job_queue = "cpu"\ncpu_job_def = "work"\n')
    words = ("plan", "tiny.py", "-a", "root_uri", "s3://bucket/tiny")
    both = ("--runner", "local", "--runner", "batch")
    tiny.rvrun(*words, *both, "--splits", "2", "--out", "plans/tiny")
    assert (tiny.folder / "plans/tiny/Makefile").exists()
    assert (tiny.folder / "plans/tiny/batch/1-tiny-cut.json").exists()
    tiny.rvrun(*words, *both, "--splits", "2", "--check", "plans/tiny")
    tiny.write("plans/tiny/batch/9-tiny-old.json", "{}")
    done = tiny.rvrun(*words, *both, "--splits", "2", "--check", "plans/tiny", code=1)
    assert "out of date: plans/tiny/batch/9-tiny-old.json" in done.stderr
    tiny.rvrun(*words, *both, "--splits", "2", "--out", "plans/tiny")
    assert not (tiny.folder / "plans/tiny/batch/9-tiny-old.json").exists()


def test_runners_with_different_configs_are_refused(tiny: Project) -> None:
    """One directory holds one plan."""
    text = tiny.read("tiny.py").replace("root_uri=root_uri,", "root_uri=f's3://b/{runner}',")
    tiny.write("tiny.py", text)
    tiny.write("rvrun.toml", '[batch]\ncpu_job_queue = "cpu"\ncpu_job_def = "work"\n')
    words = ("plan", "tiny.py", "--runner", "local", "--runner", "batch", "--out", "plans")
    assert (
        "plan.json differs between --runner local and --runner batch; plan each into its own --out"
    ) in tiny.rvrun(*words, code=2).stderr
