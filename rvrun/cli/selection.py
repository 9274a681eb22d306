"""Select the stages that a change affects."""

from __future__ import annotations

import attrs

from rvrun.cli.base import read_base
from rvrun.cli.messages import say
from rvrun.cli.options import BadOption
from rvrun.cli.sides import compiled_side
from rvrun.plan.diff import diff_plans
from rvrun.plan.select import affected
from rvrun.prepare import Request, prepare_plan


def select_affected(request: Request, base: str) -> Request:
    """Return the request for the stages that differ from `base`, and for what needs them.

    Its `commands` are empty if there are none, which this says. Raises `BadOption`, and what
    `read_base` raises.
    """
    if request.commands or request.until or request.start:
        raise BadOption(
            "`--affected` selects the stages; remove COMMAND, --until and --from, or --affected"
        )
    new = compiled_side(prepare_plan(request))
    names = affected(new.plan, diff_plans(read_base(request, base), new))
    if not names:
        say(f"nothing differs from {base}; no stage is affected")
    return attrs.evolve(request, commands=names)
