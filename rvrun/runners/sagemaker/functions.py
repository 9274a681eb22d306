"""Functions in pipeline definitions, which SageMaker evaluates when it starts a step. Pure.

Their JSON is that of the SageMaker Python SDK: `Join` in its workflow/functions.py, and
`ExecutionVariables.PIPELINE_EXECUTION_ID` in its workflow/execution_variables.py. Its estimators
accept functions for the URI of checkpoints (`checkpoint_s3_uri` in estimator.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

#: The id of the execution, which a retried execution keeps.
EXECUTION_ID = {"Get": "Execution.PipelineExecutionId"}
#: What an id looks like, for checks.
EXAMPLE_ID = "a1b2c3d4e5f6"


def join(*parts: str | Mapping[str, str]) -> Mapping[str, Any]:
    """Return the function that joins `parts`, strings and functions, with slashes."""
    return {"Std:Join": {"On": "/", "Values": list(parts)}}


def resolve(value: Any) -> Any:
    """Return `value` as after evaluation, with an example of an execution's id.

    Functions that rvrun does not use, which a user's template may contain, remain.
    """
    if value == EXECUTION_ID:
        return EXAMPLE_ID
    if isinstance(value, list):
        return [resolve(item) for item in value]
    if not isinstance(value, Mapping):
        return value
    values = {key: resolve(item) for key, item in value.items()}
    match values:
        case {"Std:Join": {"On": str(separator), "Values": list(parts)}} if len(values) == 1:
            if all(isinstance(part, str) for part in parts):
                return separator.join(parts)
    return values
