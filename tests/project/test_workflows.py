"""CI's configuration: valid by GitHub's schema, and in step with pyproject.toml."""

from __future__ import annotations

import pathlib
import re
import sys
import tomllib
from typing import Any

import pytest
import yaml

from tests.conftest import ROOT, Project

WORKFLOWS = (*sorted((ROOT / ".github/workflows").glob("*.yml")), ROOT / "examples/ci/plan.yml")
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
CI = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8"))


def pythons() -> list[str]:
    """The versions of Python that the package says it supports."""
    matches = (
        re.fullmatch(r"Programming Language :: Python :: (3\.\d+)", classifier)
        for classifier in PYPROJECT["project"]["classifiers"]
    )
    return [match[1] for match in matches if match]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_workflows_are_valid(path: pathlib.Path, project: Project) -> None:
    """GitHub's schema, which check-jsonschema brings along, accepts each workflow."""
    schema = ("--builtin-schema", "vendor.github-workflows")
    project.run(sys.executable, "-m", "check_jsonschema", *schema, str(path))


def test_a_workflow_that_is_wrong_is_refused(project: Project) -> None:
    """The check finds a misspelled key, so that its silence means something."""
    text = (ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8")
    project.write("ci.yml", text.replace("runs-on:", "run-on:", 1))
    command = (sys.executable, "-m", "check_jsonschema", "--builtin-schema")
    project.run(*command, "vendor.github-workflows", "ci.yml", code=1)


@pytest.mark.parametrize("name", CI["jobs"])
def test_jobs_need_jobs_that_exist(name: str) -> None:
    """What the schema cannot see: names in `needs`, and a limit of time for each job."""
    job: dict[str, Any] = CI["jobs"][name]
    needs = job.get("needs", [])
    assert set([needs] if isinstance(needs, str) else needs) <= CI["jobs"].keys()
    assert job["timeout-minutes"] <= 60


def test_each_python_is_tested_on_each_system() -> None:
    """The matrices have the versions of the classifiers; the first is the lowest that installs."""
    assert pythons()[0] == PYPROJECT["project"]["requires-python"].removeprefix(">=")
    fast = CI["jobs"]["fast"]["strategy"]["matrix"]
    assert fast["python"] == pythons()
    full = CI["jobs"]["test"]["strategy"]["matrix"]["include"]
    for system in fast["os"]:
        assert [entry["python"] for entry in full if entry["os"] == system] == pythons()


def test_macos_is_tested_with_both_makes() -> None:
    """The make that macOS ships, 3.81, and Homebrew's."""
    full = CI["jobs"]["test"]["strategy"]["matrix"]["include"]
    assert {e["make"] for e in full if e["os"] == "macos-latest"} == {"make", "gmake"}
