"""A site: a project with a pipeline that leaves marks, and a real Slurm."""

from __future__ import annotations

import pytest

from tests.conftest import Project
from tests.engines.slurm import Slurm
from tests.runners.slurm.runs import MARKS, Site


@pytest.fixture
def site(project: Project, slurm: Slurm) -> Site:
    project.write("marks.py", MARKS)
    project.write("rvrun.toml", "[slurm]\nlookup_delay = 1\n")
    return Site(project, slurm)
