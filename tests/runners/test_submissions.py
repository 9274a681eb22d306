"""What detached runners share: warnings before a retry."""

from __future__ import annotations

import json
import pathlib

import pytest

from rvrun.remote import ledger as ledgers
from rvrun.remote.ledger import Ledger
from rvrun.remote.state import RunState, StageState, State
from rvrun.runners.submissions import ONCE, retried_twice

EFFECT = "adds files to those of the first one"


def submitted(folder: pathlib.Path, once: dict[str, str]) -> Ledger:
    """The ledger of a run whose stages in `once` must not be attempted twice."""
    files = {f"own/{ONCE}": json.dumps(once)} if once else {"own/job.json": "{}"}
    return ledgers.create(folder, "tiny", "some", files, {})


def failed_run(began: float | None) -> RunState:
    """A run whose stage failed."""
    stage = StageState(name="tiny/chip", counts={State.FAILED: 1}, began=began)
    return RunState(run_id="tiny-1", runner="some", stages=(stage,), began=1.0)


def test_the_state_is_not_read_without_such_stages(tmp_path: pathlib.Path) -> None:
    """It costs calls to the service."""

    def read_state() -> RunState:
        raise AssertionError("the state was read")

    assert list(retried_twice(submitted(tmp_path, {}), ("own",), read_state)) == []


@pytest.mark.parametrize(("began", "warnings"), [(1.0, 1), (None, 0)])
def test_a_failed_stage_that_began_is_a_warning(
    began: float | None, warnings: int, tmp_path: pathlib.Path
) -> None:
    """A stage that never began has written nothing."""
    ledger = submitted(tmp_path, {"tiny/chip": EFFECT})
    texts = list(retried_twice(ledger, ("own",), lambda: failed_run(began)))
    assert len(texts) == warnings
    assert all(text.startswith(f"a second attempt of tiny/chip {EFFECT}; ") for text in texts)
