"""The section `[stub]` of `rvrun.toml`."""

from __future__ import annotations

import attrs

from rvrun.settings.schema import setting


@attrs.frozen(kw_only=True)
class StubSettings:
    """`[stub]`."""

    queue: str | None = setting("queue of the jobs")
    slots: int = setting("jobs that run in parallel", 2, most=16)
