"""`rvrun report`: a run as a web page, or as a trace."""

from __future__ import annotations

import os
import pathlib
import time
from typing import Annotated

import typer

from rvrun.cli.messages import say
from rvrun.cli.options import BadOption, option, read_common
from rvrun.cli.run_options import LatestRun, Runs
from rvrun.inputs import writing
from rvrun.observe.find import find_run
from rvrun.remote import ledger as ledgers
from rvrun.text import count

Html = Annotated[
    str | None, option("--html", metavar="FILE", help="Write a web page that needs no network.")
]
Trace = Annotated[
    str | None,
    option(
        "--trace",
        metavar="FILE",
        help="Write a trace for https://ui.perfetto.dev or chrome://tracing.",
    ),
]


def report(
    context: typer.Context,
    run: LatestRun = ledgers.LATEST,
    html: Html = None,
    trace: Trace = None,
    runs: Runs = ledgers.RUNS,
) -> None:
    """Write a web page or a trace of a run.

    The page has a timeline with the critical path and idle time, stages with durations and memory,
    stragglers, failures with the ends of their logs, the plan, and the config without values that
    look like secrets. Of a detached run, it shows what the service reports.

    - `rvrun report --html report.html`
    - `rvrun report runs/landcover --html report.html --trace trace.json`
    """
    if html is None and trace is None:
        raise BadOption("`report` requires --html FILE, --trace FILE, or both")
    if html and trace and os.path.realpath(html) == os.path.realpath(trace):
        raise BadOption("--html and --trace name the same file; use two files")
    observed = find_run(run, pathlib.Path(runs))
    from rvrun.report.page import to_html
    from rvrun.report.source import source_of
    from rvrun.report.timeline import make_timeline
    from rvrun.report.trace import to_trace

    source = source_of(observed)
    snapshot = source.snapshot
    timeline = make_timeline(snapshot, time.time())
    texts = {}
    if html is not None:
        texts[html] = to_html(source, timeline)
    if trace is not None:
        texts[trace] = to_trace(snapshot, timeline, observed.handle)
    for path, text in texts.items():
        with writing(path):
            pathlib.Path(path).write_text(text, encoding="utf-8")
        if not read_common(context).quiet:
            say(f"wrote {path}: {count(snapshot.plan.num_targets, 'target')} of {observed.handle}")
