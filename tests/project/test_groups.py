"""Tests of a group run in one process, so that what they share is made once."""

from __future__ import annotations

import os

import pytest


@pytest.mark.skipif("PYTEST_XDIST_WORKER" not in os.environ, reason="tests run in one process")
@pytest.mark.xdist_group("example")
def test_xdist_knows_the_groups(request: pytest.FixtureRequest) -> None:
    """Not every version of pytest lets xdist mark the tests of a group."""
    assert request.node.nodeid.endswith("@example")
