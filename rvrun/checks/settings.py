"""Checks of the settings and of the templates that they name."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Iterator

from rvrun.checks.case import Case
from rvrun.errors import RvrunError
from rvrun.finding import Finding, error, ok, warning
from rvrun.settings.layers import options
from rvrun.settings.schema import variable
from rvrun.settings.values import BadSetting


def check_settings(case: Case) -> Iterator[Finding]:
    """Check that all layers of settings are valid; report those that are set, and where."""
    if isinstance(case.settings, RvrunError):
        yield error("settings", case.settings, _fix(case.settings))
        return
    listed = options(case.request.flags, case.request.profile)
    given = [option for option in listed if option.origin != "default"]
    shown = ", ".join(f"{o.key} = {o.shown} ({o.origin})" for o in given)
    yield ok("settings", shown or "all defaults")


def _fix(problem: RvrunError) -> str:
    if not isinstance(problem, BadSetting):
        return ""
    origin = problem.origin
    return f"change it in {origin}" if os.path.exists(origin) else f"change {origin}"


def check_templates(case: Case) -> Iterator[Finding]:
    """Check that the folder of templates exists and replaces a template of the runner."""
    settings, runner = case.settings, case.runner
    if isinstance(settings, RvrunError) or isinstance(runner, RvrunError):
        return
    if settings.templates is None:
        return
    folder = pathlib.Path(settings.templates)
    change = f"change --templates or the setting `templates` ({variable('templates')})"
    names = runner.TEMPLATES
    # Not pathlib's methods, which raise for a name that is too long.
    used = [name for name in names if os.path.isfile(folder / name)]
    if not os.path.isdir(folder):
        yield error("templates", f"there is no directory {folder}", change)
    elif used:
        yield ok("templates", f"{', '.join(used)} from {folder}")
    else:
        text = f"{folder} has no template of this runner ({', '.join(names) or 'it uses none'})"
        write = f"write {folder / names[0]}, or " if names else ""
        yield warning("templates", text, f"{write}{change}")
