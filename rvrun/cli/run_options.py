"""Arguments and options of the verbs that read or continue a run."""

from __future__ import annotations

from typing import Annotated

from rvrun.cli.options import argument, candidates, option
from rvrun.remote import ledger as ledgers

RUN = (
    "A run directory or the name of one in runs/, the id of a detached run or its beginning, or "
    "`@latest`."
)
Run = Annotated[str, argument(metavar="RUN", help=RUN, autocompletion=candidates("runs"))]
LatestRun = Annotated[
    str,
    argument(
        metavar="[RUN]",
        help=f"{RUN.removesuffix('.')}; default: {ledgers.LATEST}.",
        autocompletion=candidates("runs"),
    ),
]
Runs = Annotated[
    str,
    option(
        "--runs",
        metavar="DIR",
        help=f"Directory of the run directories; default: {ledgers.RUNS}.",
    ),
]
