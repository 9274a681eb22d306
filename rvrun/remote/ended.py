"""How a run ended, as the first look that saw it over has noted in its ledger.

Services forget runs after some days, and `rvrun list` asks none.
"""

from __future__ import annotations

import contextlib

import attrs

from rvrun.remote.ledger import INTENDED, Ledger
from rvrun.remote.state import RunState, state_from_json

#: The event of the ledger that has the state of a round that is over.
ENDED = "ended"
#: What parsing raises for a stored state that is damaged.
NOT_A_STATE = (ValueError, TypeError, LookupError, AttributeError, OverflowError)


def note_ended(ledger: Ledger, state: RunState) -> None:
    """Store the state of a run that is over, if that is possible and not done yet."""
    if read_ended(ledger) is None:
        ledger.note_if_possible(ENDED, round=ledger.num_rounds, state=attrs.asdict(state))


def read_ended(ledger: Ledger) -> RunState | None:
    """Return the stored state; None if there is none, or something was submitted since.

    Only a copy: if it is damaged, the service may still know the run.
    """
    ended = None
    for event in ledger.intact_events(ENDED, INTENDED):
        if event["event"] == INTENDED:
            ended = None
        elif isinstance(event.get("state"), dict) and event.get("round") == ledger.num_rounds:
            with contextlib.suppress(*NOT_A_STATE):
                ended = state_from_json(event["state"])
    return ended
