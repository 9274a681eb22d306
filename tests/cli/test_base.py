"""Comparing with where a git branch began, and running only what it affects."""

from __future__ import annotations

import json
import pathlib
import shutil

import pytest

from tests.conftest import Project

IDENTITY = {
    "GIT_AUTHOR_NAME": "a",
    "GIT_AUTHOR_EMAIL": "a@example.com",
    "GIT_COMMITTER_NAME": "a",
    "GIT_COMMITTER_EMAIL": "a@example.com",
    "GIT_CONFIG_GLOBAL": "/dev/null",
}


def git(project: Project, *words: str) -> None:
    project.run("git", *words, code=0, **IDENTITY)


@pytest.fixture
def branch(tiny: Project) -> Project:
    """A branch that changes `show`, while `main` has changed `sum` meanwhile."""
    tiny.write(".gitignore", "runs/\n")
    git(tiny, "init", "-q", "-b", "main")
    git(tiny, "add", ".")
    git(tiny, "commit", "-q", "-m", "base")
    git(tiny, "switch", "-q", "-c", "topic")
    edit(tiny, 'f"{count:3} {word}"', 'f"{count:4} {word}"')
    git(tiny, "commit", "-q", "-a", "-m", "show")
    git(tiny, "switch", "-q", "main")
    edit(tiny, "sum(counters, Counter())", "sum(counters, Counter(a=1))")
    git(tiny, "commit", "-q", "-a", "-m", "sum")
    git(tiny, "switch", "-q", "topic")
    return tiny


def edit(project: Project, old: str, new: str) -> None:
    text = project.read("tiny.py")
    assert old in text
    project.write("tiny.py", text.replace(old, new))


SHOW = """\
~ tiny/show  code changed: Tiny.show
would run again:
  tiny/show  code changed: Tiny.show
"""


def test_a_branch_is_compared_with_its_merge_base(branch: Project) -> None:
    """What `main` changed since is not part of it; changes that are not committed are."""
    done = branch.rvrun("diff", "--base", "main", "tiny.py", "--splits", "2", code=1)
    assert done.stdout == SHOW
    edit(branch, "len(word) >=", "len(word) >")
    done = branch.rvrun("diff", "--base", "main", "tiny.py", "--splits", "2", code=1)
    assert "~ tiny/count  code changed: Tiny.count → Tiny.counts" in done.stdout
    assert branch.run("git", "worktree", "list").stdout.count("\n") == 1
    assert branch.run("git", "status", "--short").stdout == " M tiny.py\n"


def test_absolute_paths_name_the_files_of_the_base(branch: Project) -> None:
    """A config and a folder on PYTHONPATH that are named by their absolute paths."""
    path = str(branch.folder / "tiny.py")
    done = branch.rvrun("diff", "--base", "main", path, "--splits", "2", code=1)
    assert done.stdout == SHOW
    branch.write("sub/empty.txt", "")
    git(branch, "add", "sub")
    git(branch, "commit", "-q", "--amend", "--no-edit")
    words = ("rvrun", "diff", "--base", "HEAD~", "tiny", "--splits", "2")
    for folder in (str(branch.folder), ".."):
        git(branch, "switch", "-q", "--detach", "topic")
        git(branch, "commit", "-q", "--allow-empty", "-m", "later")
        edit(branch, "len(word) >=", "len(word) >")
        done = branch.run(*words, cwd="sub", code=1, PYTHONPATH=folder)
        assert "~ tiny/count  code changed: Tiny.count → Tiny.counts" in done.stdout
        git(branch, "checkout", "-q", "tiny.py")


def test_code_in_a_submodule(branch: Project) -> None:
    """It is as of the commit that the base had, which must be here."""
    branch.write("part/words.py", "def is_long(word):\n    return len(word) > 1\n")
    for command in ("init -q", "add .", "commit -q -m part"):
        git(branch, "-C", "part", *command.split())
    edit(branch, "return len(word) >= self.config.min_length", "return is_long(word)")
    edit(branch, "import rvrun\n", "import rvrun\nfrom part.words import is_long\n")
    git(branch, "add", ".")
    git(branch, "commit", "-q", "-m", "a submodule")
    words = ("diff", "--base", "HEAD", "tiny.py", "--splits", "2")
    branch.rvrun(*words, code=0)
    branch.write("part/words.py", "def is_long(word):\n    return len(word) > 2\n")
    done = branch.rvrun(*words, code=1)
    assert "~ tiny/count  code changed: Tiny.count → Tiny.counts → part.words.is_long" in (
        done.stdout
    )
    git(branch, "update-index", "--cacheinfo", f"160000,{'1' * 40},part")
    git(branch, "commit", "-q", "-m", "a commit that is not here")
    assert "its submodule part needs commit 111111111111; fetch it: `git -C part fetch`" in (
        branch.rvrun(*words, code=2).stderr
    )


def test_arguments_name_the_files_of_the_base(branch: Project) -> None:
    """A file that an argument names by its absolute path, and that the config reads."""
    source = branch.read("tiny.py").replace(
        '"out/tiny", top: int = 3', '"out/tiny", file: str = ""'
    )
    branch.write("tiny.py", source.replace("top=top", "top=int(pathlib.Path(file).read_text())"))
    branch.write("top.txt", "3")
    git(branch, "add", ".")
    git(branch, "commit", "-q", "-m", "file")
    branch.write("top.txt", "4")
    call = ("diff", "--base", "HEAD", "tiny.py", "-a", "file")
    for path in ("top.txt", str(branch.folder / "top.txt")):
        done = branch.rvrun(*call, path, code=1)
        assert done.stdout.startswith("~ tiny  config: top 3 → 4\n")


def test_the_config_of_a_base(branch: Project) -> None:
    """Without CONFIG it is that of the saved plan, or `pipeline.toml`, or there is an error."""
    branch.rvrun("plan", "tiny.py", "--splits", "2", "-a", "top", "4", "--out", "plans/tiny")
    for base in ("plans/tiny", "plans/tiny/plan.json"):
        done = branch.rvrun("diff", "--base", base)
        assert done.stderr == "the plans are the same\n"
    done = branch.rvrun("diff", "--base", "plans/tiny", "--splits", "3", "-a", "top", "5", code=1)
    assert "splits 2 → 3" in done.stdout
    assert "config: top 4 → 5" in done.stdout
    done = branch.rvrun("diff", "--base", "main", code=2)
    assert "name the CONFIG to compare: `rvrun diff --base main CONFIG`" in done.stderr
    branch.write("pipeline.toml", 'name = "t"\nroot = "out"\n[commands.a]\nrun = "echo 1"\n')
    git(branch, "add", "pipeline.toml")
    git(branch, "commit", "-q", "-m", "toml")
    branch.write("pipeline.toml", branch.read("pipeline.toml").replace("echo 1", "echo 2"))
    done = branch.rvrun("diff", "--base", "HEAD", code=1)
    assert done.stdout.startswith("~ t  config: commands.a.run echo 1 → echo 2")
    done = branch.rvrun("diff", "--base", "plans", "tiny.py", code=2)
    assert (
        "plans is not a plan that this rvrun can read: there is no plan.json in it" in done.stderr
    )


def test_a_base_that_is_the_same(branch: Project) -> None:
    """Exit code 0, and nothing is affected."""
    git(branch, "switch", "-q", "--detach", "HEAD~")
    done = branch.rvrun("diff", "--base", "main", "tiny.py")
    assert (done.stdout, done.stderr) == ("", "the plans are the same\n")
    done = branch.rvrun("run", "local", "tiny.py", "--affected", "main")
    assert done.stderr == "nothing differs from main; no stage is affected\n"
    assert not (branch.folder / "runs").exists()
    words = ("plan", "tiny.py", "--affected", "main", "--json")
    assert json.loads(branch.rvrun(*words).stdout) == {"rvrun_plan": 1, "pipelines": []}
    estimate = json.loads(branch.rvrun(*words, "--estimate").stdout)
    assert (estimate["seconds"], estimate["stages"]) == (None, [])


def test_only_what_is_affected_runs(branch: Project) -> None:
    """The stage that a branch changed, on the results of the run before."""
    git(branch, "switch", "-q", "--detach", "HEAD~")
    branch.rvrun("run", "local", "tiny.py", "--splits", "2")
    git(branch, "switch", "-q", "topic")
    command = ("run", "local", "tiny.py", "--splits", "2", "--affected", "main")
    done = branch.rvrun(*command, "--dry-run")
    assert [line.split()[0] for line in done.stdout.splitlines()[2:]] == ["tiny/show", "tiny:"]
    done = branch.rvrun(*command)
    assert "tiny/show done\n" in done.stderr
    assert "1 target ran;" in done.stderr


def test_a_saved_plan_and_a_run_directory_are_bases(branch: Project) -> None:
    """As the manual says."""
    branch.rvrun("plan", "tiny.py", "--out", "plans/tiny")
    edit(branch, "len(word) >=", "len(word) >")
    for base in ("plans/tiny", "plans/tiny/plan.json"):
        done = branch.rvrun("plan", "tiny.py", "--affected", base)
        names = [line.split()[0] for line in done.stdout.splitlines()[2:]]
        assert names == ["tiny/count", "tiny/sum", "tiny/show", "tiny:"]


def test_a_config_that_knows_its_place(project: Project) -> None:
    """Paths that a config derives from its own file do not differ between revisions."""
    source = """\
import pathlib
import rvrun

class C(rvrun.PipelineConfig):
    data: str = ""
    def build(self):
        return P(self)

class P(rvrun.Pipeline):
    commands = ("a",)
    def a(self):
        print(1)

def get_config(runner):
    return C(root_uri="out", name="p", data=str(pathlib.Path(__file__).resolve().parent / "data"))
"""
    project.write("sub/p.py", source)
    git(project, "init", "-q", "-b", "main")
    git(project, "add", ".")
    git(project, "commit", "-q", "-m", "base")
    done = project.run("rvrun", "diff", "--base", "main", "p.py", cwd="sub")
    assert done.stderr == "the plans are the same\n"
    project.write("sub/p.py", source.replace("print(1)", "print(2)"))
    done = project.run("rvrun", "diff", "--base", "main", "p.py", cwd="sub", code=1)
    assert "~ p/a  code changed" in done.stdout


def test_bases_that_cannot_be_read(
    branch: Project, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Each error names the base, and what to do."""
    done = branch.rvrun("diff", "--base", "nope", "tiny.py", code=2)
    assert "`nope` must be a saved plan, a run directory or a git revision" in done.stderr
    assert "`git fetch origin`" in done.stderr
    for name in ("--exec=touch x", "main:tiny.py", "main^{tree}", ""):
        done = branch.rvrun("diff", "--base", name, "tiny.py", code=2)
        assert "git does not know such a commit here" in done.stderr
    clone = str(branch.folder / "clone")
    git(branch, "clone", "-q", "--depth", "1", f"file://{branch.folder}", clone)
    done = branch.run("rvrun", "diff", "--base", "HEAD~", "tiny.py", cwd="clone", code=2)
    assert "or fetch all of it: `git fetch --unshallow`, or `fetch-depth: 0`" in done.stderr
    shutil.rmtree(clone)
    git(branch, "switch", "-q", "--orphan", "empty")
    git(branch, "commit", "-q", "--allow-empty", "-m", "empty")
    branch.write("tiny.py", branch.run("git", "show", "topic:tiny.py").stdout)
    done = branch.rvrun("diff", "--base", "main", "tiny.py", code=2)
    assert "it has no commit in common with the current one" in done.stderr
    assert "`fetch-depth: 0`" in done.stderr
    done = branch.rvrun("diff", "--base", "empty", "tiny.py", code=2)
    assert "tiny.py cannot be compiled as it was at `empty`" in done.stderr
    elsewhere = Project(pathlib.Path(tmp_path_factory.mktemp("elsewhere")))
    elsewhere.write("tiny.py", branch.read("tiny.py"))
    done = elsewhere.rvrun("diff", "--base", "main", "tiny.py", code=2)
    assert "this directory is not in a git repository" in done.stderr


def test_calls_that_contradict_each_other(branch: Project) -> None:
    for words, message in (
        (["diff", "tiny.py"], "name two plans, or add --base BASE"),
        (["plan", "tiny.py", "cut", "--affected", "main"], "`--affected` selects the stages"),
        (["plan", "tiny.py", "cut", "--until", "sum"], "COMMAND and --until both select stages"),
        (["run", "batch", "tiny.py", "--force", "cut"], "`--force` only works with runners that"),
        (["diff", "tiny.py", "tiny.py", "--runner", "local"], "--runner only affects estimates"),
        (["plan", "tiny.py", "-j2"], "--jobs only affects estimates"),
        (["plan", "tiny.py", "--estimate", "-j0"], "--jobs must be at least 1, got 0"),
    ):
        assert message in branch.rvrun(*words, code=2).stderr


def test_ranges_and_forced_stages(tiny: Project) -> None:
    """`--until`, `--from` and `--force` of a run, and what they run."""
    tiny.rvrun("run", "local", "tiny.py", "--until", "count")
    assert sorted(path.name for path in (tiny.folder / "runs/tiny/done/tiny").iterdir()) == [
        *("count.1", "count.all", "cut.1", "cut.all")
    ]
    tiny.rvrun("run", "local", "tiny.py", "--from", "sum")
    done = tiny.rvrun("plan", "tiny.py", "--force", "sum")
    assert [line.split()[-1] for line in done.stdout.splitlines()[4:6]] == ["--force", "sum"]
    done = tiny.rvrun("run", "local", "tiny.py", "--force", "tiny/sum")
    assert "2 targets ran, 2 up to date" in done.stderr
    done = tiny.rvrun("run", "inprocess", "tiny.py", "--force", "show")
    assert "1 target ran, 3 up to date" in done.stderr
    done = tiny.rvrun("run", "local", "tiny.py", "--until", "cut", "--from", "show", code=2)
    assert "no stage is both after `--from show` and before `--until cut`" in done.stderr
