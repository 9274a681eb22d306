"""docs/ci.md and the workflow, step by step, as they are written."""

from __future__ import annotations

import pathlib
import re
import shutil

import pytest
import yaml

from tests.conftest import ROOT, Project

PAGE = (ROOT / "docs/ci.md").read_text(encoding="utf-8")
WORKFLOW = yaml.safe_load((ROOT / "examples/ci/plan.yml").read_text(encoding="utf-8"))
IDENTITY = ("-c", "user.name=a", "-c", "user.email=a@example.com")


@pytest.fixture
def checkout(project: Project) -> Project:
    """A repository with the example, a saved plan, and estimates of a run."""
    shutil.copytree(ROOT / "examples", project.folder / "examples")
    project.write(".gitignore", "runs/\nout/\n")
    project.run("git", "init", "-q", "-b", "main")
    return project


def commit(project: Project) -> None:
    project.run("git", "add", ".")
    project.run("git", *IDENTITY, "commit", "-q", "-m", "all")


def section(heading: str) -> str:
    """The commands of a section of the page."""
    text = PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    return "".join(re.findall(r"^```sh\n(.*?)^```$", text, re.MULTILINE | re.DOTALL))


def edit(project: Project) -> None:
    """Change what `eval` does."""
    path = "examples/landcover.py"
    text = project.read(path)
    old = "    def eval(self"
    assert old in text
    at = text.index("\n", text.index(":", text.index(old))) + 1
    project.write(path, f"{text[:at]}        print('scores')\n{text[at:]}")


@pytest.mark.xdist_group("landcover")
def test_the_page_and_the_workflow(
    checkout: Project, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Save, run, summarize and commit; then change a function, and see what the workflow posts."""
    script = section("Save the plan") + section("Say how long it takes")
    done = checkout.run("sh", "-ec", script)
    assert "plans/landcover is up to date\n" in done.stderr
    assert "landcover/chip" in checkout.read("estimates.json")
    commit(checkout)
    checkout.run("git", "update-ref", "refs/remotes/origin/main", "HEAD")
    # In CI there are no runs.
    shutil.rmtree(checkout.folder / "runs")
    assert steps(checkout, tmp_path_factory) == ("code=0\n", None)
    run = section("Run what was reviewed").splitlines()[0]
    assert "12 would run" in checkout.run("sh", "-ec", f"{run} --dry-run").stdout
    edit(checkout)
    done = checkout.run("sh", "-c", run, code=1)
    assert "plans/landcover/code/landcover/eval.txt\n  -landcover.Landcover.eval " in done.stderr
    outputs, comment = steps(checkout, tmp_path_factory)
    assert re.search(
        r"\Acode=1\nestimate=\+\d.* at -j4 \(p90 \d.*\)\nseconds=[\d.]+\ncost=\n\Z", outputs
    )
    assert comment is not None
    assert "| `landcover/eval` | code changed: Landcover.eval |" in comment
    assert "**Estimate**: +" in comment
    assert "in estimates.json" in comment
    compare, _, with_config = section("Compare with the base of a branch").partition("\n")
    done = checkout.run("sh", "-c", compare, code=1)
    assert done.stdout.startswith("~ landcover/eval  code changed: Landcover.eval\n")
    assert "estimate: +" in done.stdout
    checkout.run("git", "checkout", "-q", "examples")
    assert f"```text\n{checkout.run('sh', '-c', with_config, code=1).stdout}```" in PAGE
    edit(checkout)
    affected = section("Run what was reviewed").splitlines()[1]
    done = checkout.run("sh", "-ec", f"{affected} --dry-run")
    names = [line.split()[0] for line in done.stdout.splitlines()[2:-1]]
    assert names == ["landcover/eval", "landcover/bundle"]


def steps(project: Project, factory: pytest.TempPathFactory) -> tuple[str, str | None]:
    """Run the steps of the workflow as GitHub does; return the outputs and the comment, if any."""
    folder = pathlib.Path(factory.mktemp("github"))
    gh = folder / "gh"
    gh.write_text(f'#!/bin/sh\necho "$@" > {folder}/arguments\ncp plan.md {folder}/comment\n')
    gh.chmod(0o755)
    output, summary = folder / "output", folder / "summary"
    variables = {"GITHUB_OUTPUT": str(output), "GITHUB_STEP_SUMMARY": str(summary)}
    codes = []
    for step in WORKFLOW["jobs"]["plan"]["steps"]:
        script = step.get("run", "")
        if not script or "pip install" in script:
            continue
        if "if" in step:
            assert step["if"] == "steps.plan.outputs.code == '1'"
            if "code=1\n" not in output.read_text():
                continue
        script = script.replace("${{ github.event.pull_request.number }}", "7")
        assert "${{" not in script
        is_last = script.strip() == "exit 1"
        script = f"PATH={folder}:$PATH\n{script}"
        codes.append(project.run("bash", "-ec", script, code=int(is_last), **variables).returncode)
    assert codes == ([0, 0, 1] if (folder / "comment").exists() else [0])
    assert summary.read_text().startswith("**rvrun plan**")
    comment = (folder / "comment").read_text() if len(codes) == 3 else None
    return output.read_text(), comment
