"""`claims`: the `local` or `inprocess` runner with other capabilities than it has."""

from __future__ import annotations

import json
import os
from importlib import import_module

import attrs

_variables = json.loads(os.environ.get("STUB_CLAIMS", "{}"))
_runner = import_module(f"rvrun.runners.{_variables.pop('runner', 'local')}.runner")
globals().update({name: value for name, value in vars(_runner).items() if name[0] != "_"})
SETTINGS = None
CAPABILITIES = attrs.evolve(_runner.CAPABILITIES, **_variables)
