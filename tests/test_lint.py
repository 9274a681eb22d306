"""Lint, format and types, so that one command checks everything."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.conftest import ROOT


@pytest.mark.parametrize(
    "tool", [("ruff", "check"), ("ruff", "format", "--check"), ("mypy",)], ids=" ".join
)
@pytest.mark.usefixtures("processes")
def test_clean(tool: tuple[str, ...]) -> None:
    """Neither ruff nor `mypy --strict` reports a problem."""
    done = subprocess.run(
        [sys.executable, "-m", *tool], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
