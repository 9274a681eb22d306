"""A version is one number: in the package, its metadata, the changelog, and what is rendered."""

from __future__ import annotations

import ast
import datetime as dt
import re
import tomllib

import rvrun
from tests.conftest import ROOT

CHANGELOG = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
HEADING = re.compile(r"^## (\S+)(?: - (\S+))?$", re.MULTILINE)


def test_the_version_is_a_literal() -> None:
    """`setuptools` reads it without importing the package, so its dependencies are not needed."""
    tree = ast.parse((ROOT / "rvrun/__init__.py").read_text(encoding="utf-8"))
    values = {
        node.targets[0].id: node.value.value
        for node in tree.body
        if isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Name)
        and isinstance(node.value, ast.Constant)
    }
    assert values["__version__"] == rvrun.__version__


def test_the_changelog_has_the_version() -> None:
    """First comes what is not released yet, then this version; all have dates, the newest first."""
    unreleased, *released = HEADING.findall(CHANGELOG)
    assert unreleased == ("[Unreleased]", "")
    assert released[0][0] == f"[{rvrun.__version__}]"
    dates = [dt.date.fromisoformat(date) for _, date in released]
    assert dates == sorted(dates, reverse=True)


def test_each_version_of_the_changelog_has_a_link() -> None:
    """Keep a Changelog's links at the end compare versions."""
    names = [name.strip("[]") for name, _ in HEADING.findall(CHANGELOG)]
    assert re.findall(r"^\[(\S+)\]: https://", CHANGELOG, re.MULTILINE) == names


def test_each_package_is_installed() -> None:
    """`setuptools` is given a list, which must have each folder of modules."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    folders = {path.parent.relative_to(ROOT) for path in (ROOT / "rvrun").rglob("*.py")}
    packages = {".".join(folder.parts) for folder in folders}
    assert set(project["tool"]["setuptools"]["packages"]) == {*packages, "rvrun.templates"}
