"""`rvrun records`: what the records of earlier runs tell about stages."""

from __future__ import annotations

import enum
import itertools
import pathlib
from typing import Annotated

import typer

from rvrun import paths
from rvrun.cli.messages import say
from rvrun.cli.options import BadOption, argument, option, read_common
from rvrun.cli.tables import Column, print_table
from rvrun.plan.durations import StageSummary
from rvrun.remote.ledger import RUNS
from rvrun.text import count, duration, memory, short_duration

COLUMNS = (
    Column("stage"),
    Column("targets", is_right=True),
    Column("in sequence", is_right=True),
    Column("per item", is_right=True, rank=3),
    Column("CPUs", is_right=True, rank=2),
    Column("peak memory", is_right=True, rank=1),
)


class Action(enum.StrEnum):
    """What to do with records."""

    SUMMARY = "summary"


def records(
    context: typer.Context,
    action: Annotated[Action, argument(metavar="ACTION", help="`summary`: summarize them.")],
    names: Annotated[
        list[str] | None,
        argument(
            metavar="[RUN]...",
            help="Run directories, or runs on AWS, of which their service is asked; default: the "
            "run directories in runs/ that have records.",
        ),
    ] = None,
    out: Annotated[
        str | None,
        option(
            "--out",
            metavar="FILE",
            help="The file to write; stages in it that have no records here stay. Default: "
            "estimates.json in the project's directory, or the setting `estimates`.",
        ),
    ] = None,
) -> None:
    """Summarize the records of earlier runs, for estimates.

    Writes how long the targets of each stage took, and how much memory and how many CPUs they used,
    to a small file that can be committed. `--estimate` and `rvrun tune` read it where there are no
    records.

    - `rvrun records summary`
    - `rvrun records summary runs/big --out estimates.json`
    - `rvrun records summary @latest`
    """
    from rvrun.cli.estimates import file_of
    from rvrun.inputs import CannotRead, read_text, writing
    from rvrun.observe.samples import samples_of
    from rvrun.plan.summaries import NotSummaries, summaries_from_json, summaries_to_json
    from rvrun.rundir.durations import summarize_samples
    from rvrun.settings.layers import load_settings

    common = read_common(context)
    runs = names or [str(folder) for folder in find_run_dirs()]
    samples = (samples_of(name, pathlib.Path(RUNS)) for name in runs)
    summaries = summarize_samples(itertools.chain.from_iterable(samples))
    if not summaries:
        raise BadOption("no target has succeeded yet, so there is nothing to summarize; run one")
    path = out or file_of(load_settings(profile=common.profile))
    old = {}
    if pathlib.Path(path).exists():
        try:
            old = summaries_from_json(read_text(path), path)
        except CannotRead as error:
            raise NotSummaries(path, f"it {error.problem}") from None
    text = summaries_to_json({**old, **summaries})
    with writing(path):
        pathlib.Path(path).write_text(text, encoding="utf-8")
    print_table(COLUMNS, [_row(name, summaries[name]) for name in sorted(summaries)])
    if not common.quiet:
        say(f"written: {path} ({count(len(summaries), 'stage')} of {count(len(runs), 'run')})")


def find_run_dirs() -> list[pathlib.Path]:
    """Return the run directories in runs/ that have records. Raises `BadOption` without any."""
    folders = sorted(path.parent for path in pathlib.Path(RUNS).glob(f"*/{paths.RECORDS}/"))
    if not folders:
        raise BadOption("there are no records in runs/; name a run directory, or run something")
    return folders


def _row(name: str, summary: StageSummary) -> tuple[str, ...]:
    item = summary.by_item
    return (
        name,
        f"{summary.targets:,}",
        duration(summary.seconds),
        "" if item is None else short_duration(item.mean),
        "" if summary.cpus is None else f"{summary.cpus:.1f}",
        "" if summary.peak_memory_mib is None else memory(summary.peak_memory_mib * 1024),
    )
