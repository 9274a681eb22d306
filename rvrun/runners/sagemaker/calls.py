"""Calls that change something in SageMaker, so that each takes effect once.

All of them can be repeated safely. UpdatePipeline and AddTags set a state. What creates, starts,
stops or retries something carries a token by which SageMaker recognizes a repeated call. The token
is derived from the run, and is in the ledger before the call is made: whoever continues after a
crash knows that the call may have been made, and repeats it with the same token.
"""

from __future__ import annotations

import hashlib
from typing import Any

import attrs

from rvrun.aws.client import Client, Patience, Throttled, Unanswered
from rvrun.remote.ledger import INTENDED, Ledger
from rvrun.runners.aws_common import account_of_run
from rvrun.runners.sagemaker.definition import Request


@attrs.frozen(kw_only=True)
class Calls:
    """Makes the calls of one run.

    - `sagemaker`: a client that does not retry by itself.
    """

    ledger: Ledger
    sagemaker: Client
    patience: Patience = Patience()

    def call_once(
        self, operation: str, intent: str, pipeline: str, request: Request, number: int = 1
    ) -> dict[str, Any]:
        """Make a call that takes effect once, however often it is repeated with these arguments.

        - `number`: which call of its kind, so that a later one gets a token of its own.

        Raises `AwsError`.
        """
        token = self.token(f"{intent}-{number}", pipeline)
        # In the ledger before the call: a crash in between leaves a call to repeat, not to lose.
        self.ledger.note(INTENDED, what=intent, pipeline=pipeline, number=number, token=token)
        return self.call(operation, {**request, "ClientRequestToken": token})

    def call(self, operation: str, request: Request) -> dict[str, Any]:
        """Make a call that can be repeated safely, until it is answered. Raises `AwsError`.

        It is repeated after throttling, and also if there is no answer and it may have been
        carried out.
        """
        return self.patience.insist(
            lambda: self.sagemaker.call(operation, **request), Throttled, Unanswered
        )

    def token(self, call: str, pipeline: str) -> str:
        """Return the token, 64 characters, that only this call of this run has."""
        text = f"{self.ledger.run_id}/{call}/{pipeline}"
        return hashlib.sha256(text.encode()).hexdigest()


def calls_of(ledger: Ledger) -> Calls:
    """Return the `Calls` of a run, in the account where it was submitted."""
    return Calls(ledger=ledger, sagemaker=account_of_run(ledger).maker("sagemaker"))
