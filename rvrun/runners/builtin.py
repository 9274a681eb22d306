"""The runners that rvrun ships, for mypy to check against their protocols. Only tests import it."""

from __future__ import annotations

from collections.abc import Mapping

from rvrun.runners.batch import runner as batch
from rvrun.runners.inprocess import runner as inprocess
from rvrun.runners.local import runner as local
from rvrun.runners.protocol import (
    DetachedRunner,
    LocalRunner,
    MultiHostRunner,
    RecoveringRunner,
    ReportingRunner,
)
from rvrun.runners.sagemaker import runner as sagemaker
from rvrun.runners.slurm import runner as slurm

LOCAL: Mapping[str, LocalRunner] = {"inprocess": inprocess, "local": local}
DETACHED: Mapping[str, DetachedRunner] = {"batch": batch, "sagemaker": sagemaker, "slurm": slurm}
RECOVERING: Mapping[str, RecoveringRunner] = {"batch": batch}
REPORTING: Mapping[str, ReportingRunner] = {"batch": batch, "sagemaker": sagemaker}
MULTI_HOST: Mapping[str, MultiHostRunner] = {"sagemaker": sagemaker}
