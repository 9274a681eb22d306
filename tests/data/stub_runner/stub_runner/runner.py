"""`stub`: jobs of an engine that is a process of its own on this machine."""

from __future__ import annotations

import os

import attrs

from rvrun.runners.capabilities import Capabilities
from stub_runner.settings import StubSettings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from rvrun.finding import Finding
    from rvrun.remote.ledger import Ledger
    from rvrun.remote.state import Progress, RunState
    from rvrun.runners.run import Run
    from rvrun.settings.schema import Settings

TITLE = "the stub engine"
SETTINGS = StubSettings
CAPABILITIES = Capabilities(detached=True)
if _claim := os.environ.get("STUB_CLAIM"):
    CAPABILITIES = attrs.evolve(CAPABILITIES, **{_claim: not getattr(CAPABILITIES, _claim)})
TEMPLATES = ("stub-jobs.json.j2",)
OWNS = ("stub",)


def render(run: Run) -> dict[str, str]:
    from stub_runner.jobs import render

    return render(run)


def check_machine(settings: Settings) -> Iterator[Finding]:
    return iter(())


def split_index(environ: Mapping[str, str]) -> int | None:
    text = environ.get("STUB_TASK")
    return None if text is None else int(text)


def attempt(environ: Mapping[str, str]) -> int | None:
    return None


def check(run: Run) -> Iterator[Finding]:
    from rvrun.finding import ok

    yield ok("queue", f"`{run.settings.of(StubSettings).queue}` exists")


def risks(files: Mapping[str, str]) -> Iterator[str]:
    return iter(())


def submit(run: Run, progress: Progress) -> Ledger:
    from stub_runner.jobs import submit

    return submit(run, progress)


def state(ledger: Ledger) -> RunState:
    from stub_runner.jobs import state

    return state(ledger)


def logs(ledger: Ledger, target: str, *, follow: bool) -> Iterator[str]:
    from stub_runner.jobs import logs

    return logs(ledger, target)


def cancel(ledger: Ledger, progress: Progress) -> int:
    from stub_runner.jobs import cancel

    return cancel(ledger)


def retry(ledger: Ledger, settings: Settings, progress: Progress) -> int:
    from stub_runner.jobs import retry

    return retry(ledger)
