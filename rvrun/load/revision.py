"""Earlier versions of a project: the files of a git revision, without touching the repository."""

from __future__ import annotations

import contextlib
import os
import pathlib
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterator

from rvrun.errors import RvrunError

FETCH = "fetch it first, for example with `git fetch origin`"
#: For a clone without the history.
FETCH_ALL = "fetch all of it: `git fetch --unshallow`, or `fetch-depth: 0` in GitHub Actions"
#: The mode of an entry of a tree that is a commit of another repository.
SUBMODULE = "160000"


class NoRevision(RvrunError):
    """A base that git cannot read; `problem` is why."""

    base: str
    problem: str
    hint: str
    template = "`{base}` must be a saved plan, a run directory or a git revision: {problem}; {hint}"
    fix = "{hint}"


def merge_base(revision: str) -> str:
    """Return the commit from which `revision` and the current commit both descend.

    Raises `NoRevision`.
    """
    # A leading dash would be an option; `--` would make it a path.
    words = ("rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
    commit = _git(revision, *words)
    if commit is None:
        is_shallow = _git(revision, "rev-parse", "--is-shallow-repository") == "true"
        hint = f"name one that `git log` knows, or {FETCH_ALL if is_shallow else FETCH}"
        raise NoRevision(revision, "git does not know such a commit here", hint)
    base = _git(revision, "merge-base", commit, "HEAD")
    if base is None:
        problem = "it has no commit in common with the current one"
        raise NoRevision(revision, problem, FETCH_ALL)
    return base


@contextlib.contextmanager
def checked_out(commit: str) -> Iterator[pathlib.Path]:
    """Yield a temporary directory with all files of a commit.

    Not a worktree of git's, which would be noted in the repository, and would run its hooks. Files
    that git does not track are not in it, those of submodules are if the submodules are here.

    Raises `NoRevision`.
    """
    with tempfile.TemporaryDirectory(prefix="rvrun-base-") as folder:
        files = pathlib.Path(os.path.realpath(folder), "files")
        files.mkdir()
        _check_out(commit, repository(), files)
        yield files


def _check_out(commit: str, top: pathlib.Path, files: pathlib.Path, **variables: str) -> None:
    """Write the files of a commit, and of its submodules, to a directory.

    - `top`: of the repository. `variables`: which repository that is; none for the current one.
    """

    def git(*words: str) -> str:
        output = _git(commit, *words, cwd=str(top), **variables)
        if output is None:
            raise NoRevision(commit, f"`git {words[0]}` failed", "check it with `git fsck`")
        return output

    with tempfile.TemporaryDirectory(prefix="rvrun-index-") as folder:
        variables["GIT_INDEX_FILE"] = f"{folder}/index"
        git("read-tree", commit)
        git("checkout-index", "--all", f"--prefix={files}/")
        entries = git("ls-files", "--stage", "-z").split("\0")
    for entry in entries:
        facts, _, path = entry.partition("\t")
        own = top / path / ".git"
        if facts.startswith(f"{SUBMODULE} ") and own.exists():
            _check_out_submodule(commit, path, facts.split()[1], own, files / path)


def _check_out_submodule(
    commit: str, path: str, own: str, git_dir: pathlib.Path, files: pathlib.Path
) -> None:
    """Write the files of the commit `own` of a submodule, which the commit `commit` needs."""
    top, which = git_dir.parent, str(git_dir)
    if _git(commit, "cat-file", "-e", own, cwd=str(top), GIT_DIR=which) is None:
        hint = f"fetch it: `git -C {shlex.quote(path)} fetch`"
        raise NoRevision(commit, f"its submodule {path} needs commit {own[:12]}", hint)
    _check_out(own, top, files, GIT_DIR=which)


def repository() -> pathlib.Path:
    """Return the top of the repository that contains the current directory.

    Raises `NoRevision`.
    """
    top = _git(".", "rev-parse", "--show-toplevel")
    assert top is not None, "`_git` fails outside of a repository"
    return pathlib.Path(os.path.realpath(top))


def _git(name: str, *words: str, cwd: str | None = None, **variables: str) -> str | None:
    """Return what git prints, without the line's end; None if it fails.

    Raises `NoRevision` for `name` if there is no git, or no repository.
    """
    program = shutil.which("git")
    if program is None:
        raise NoRevision(name, "git is not on PATH", "install git, or name a saved plan")
    hint = "name a file or a directory with a plan, or run this in a git repository"
    done = subprocess.run(
        [program, *words],
        cwd=cwd,
        env={**os.environ, "LC_ALL": "C", **variables},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="surrogateescape",
        check=False,
    )
    if "not a git repository" in done.stderr:
        raise NoRevision(name, "this directory is not in a git repository", hint)
    if "dubious ownership" in done.stderr:
        hint = "see `safe.directory` in git-config(1)"
        raise NoRevision(name, "another user owns this git repository", hint)
    return done.stdout.removesuffix("\n") if done.returncode == 0 else None
