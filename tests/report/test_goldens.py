"""The page and the trace of a small run, byte for byte."""

from __future__ import annotations

import pathlib
import re
import time
from collections.abc import Callable, Iterator

import pytest

from rvrun import __version__
from rvrun.observe.local_run import state_of
from rvrun.observe.snapshot import Snapshot, read_snapshot
from rvrun.report.page import to_html
from rvrun.report.source import source_here
from rvrun.report.timeline import make_timeline
from rvrun.report.trace import to_trace
from tests.report.made import BEGAN, made


@pytest.fixture
def snapshot(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Snapshot]:
    """A run with a failure, in a fixed time zone."""
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield read_snapshot(made(tmp_path, 3, failing=[("land/predict/1", 3)]))
    monkeypatch.undo()
    time.tzset()


def test_the_page(snapshot: Snapshot, golden: Callable[[str, str], None]) -> None:
    """Without its styles and its script, which tests in a browser run."""
    timeline = make_timeline(snapshot, BEGAN + 7200)
    text = to_html(source_here(snapshot, state_of(snapshot, "runs/land")), timeline)
    text = re.sub(r"(<style>).*?(</style>)", r"\1\2", text, flags=re.DOTALL)
    text = re.sub(r"(<script>).*?(</script>)", r"\1\2", text, flags=re.DOTALL)
    golden("report.html", text.replace(__version__, "VERSION"))


def test_the_trace(snapshot: Snapshot, golden: Callable[[str, str], None]) -> None:
    """An event in each line."""
    text = to_trace(snapshot, make_timeline(snapshot, BEGAN + 7200), "runs/land")
    golden("report.trace.json", text.replace('},{"name"', '},\n{"name"'))
