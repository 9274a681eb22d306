"""The events that runs on SageMaker add to their ledger, and what follows from them.

defined {pipeline, version}                a pipeline was created or updated
intended {what, pipeline, number, token}   a call is about to be made
started {pipeline, execution}              an execution was started; its ARN
retried {pipeline, number}                 an execution was retried
"""

from __future__ import annotations

from rvrun.remote.ledger import CANCELLED, INTENDED, Ledger

DEFINED, STARTED, RETRIED = "defined", "started", "retried"
#: What a call is intended to do.
START, RETRY = "start", "retry"


def started_executions(ledger: Ledger) -> dict[str, str]:
    """Return the ARNs of the executions that were noted as started, by pipeline."""
    return {event["pipeline"]: event["execution"] for event in ledger.events(STARTED)}


def is_cancelled(ledger: Ledger) -> bool:
    """Whether the latest event is a cancel rather than a retry."""
    events = [event["event"] for event in ledger.events(CANCELLED, RETRIED)]
    return events[-1:] == [CANCELLED]


def next_number(ledger: Ledger, intent: str, pipeline: str) -> int:
    """Return the number of a new call, from 1; it must differ from those of earlier calls."""
    events = ledger.events(INTENDED)
    return 1 + sum((event["what"], event["pipeline"]) == (intent, pipeline) for event in events)


def interrupted_retries(ledger: Ledger) -> dict[str, int]:
    """Return the numbers of retries that were intended but not noted as made, by pipeline."""
    made = {(event["pipeline"], event["number"]) for event in ledger.events(RETRIED)}
    return {
        event["pipeline"]: event["number"]
        for event in ledger.events(INTENDED)
        if event["what"] == RETRY and (event["pipeline"], event["number"]) not in made
    }
