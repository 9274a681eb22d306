"""What a runner can do; rvrun decides by these, never by a runner's name."""

from __future__ import annotations

import attrs


@attrs.frozen(kw_only=True)
class Capabilities:
    """What a runner can do.

    - `detached`: runs continue without this process, as jobs of a service or scheduler.
    - `isolated`: each target runs in a process of its own, with a log of its own.
    - `keeps_stamps`: finished targets are marked in the run directory, and a later run skips them.
    - `keeps_going`: can continue with what does not need a failed target.
    - `has_debugger`: can stop in the debugger where a command raises.
    - `limits_targets`: targets share this machine, within the limits of their `resources`.
    - `needs_remote_storage`: every pipeline's `root_uri` must be a URI that other machines reach.
    - `recovers`: can rebuild the ledger of a run from its service; see `RecoveringRunner`.
    - `reports_targets`: tells when each target ran; see `ReportingRunner`.
    - `multi_host`: a job may have several hosts; the runner's `hosts` lists them.
    """

    detached: bool = False
    isolated: bool = True
    keeps_stamps: bool = False
    keeps_going: bool = False
    has_debugger: bool = False
    limits_targets: bool = False
    needs_remote_storage: bool = False
    recovers: bool = False
    reports_targets: bool = False
    multi_host: bool = False
