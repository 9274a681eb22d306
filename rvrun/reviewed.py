"""Saved plans that are run later, only if compiling still gives the same.

`rvrun plan --out DIR` saves what was asked for next to the rendered files. `rvrun run --plan DIR`
asks for the same again, and compares every file byte for byte.
"""

from __future__ import annotations

import difflib
import os
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import attrs

from rvrun import __version__, paths
from rvrun.errors import FAILED, RvrunError
from rvrun.inputs import CannotRead, read_object
from rvrun.prepare import Prepared, Request, kept, prepare_all
from rvrun.render.files import to_text
from rvrun.rundir.files import strangers
from rvrun.runners.registry import find_runner
from rvrun.settings import layers
from rvrun.text import count, quoted, shorten

#: The file with the request, in the directory of a saved plan.
FILE = "request.json"
#: The version of its format.
VERSION = 1
#: How many lines that differ are shown of each file.
NUM_LINES = 6
#: Settings that are not in a runner's section, and change what runs.
SETTINGS = ("code", "code_packages", "aws.region")
#: Its keys that have lists of strings.
STRINGS = ("commands", "until", "from", "force", "splits", "runners")


class NotSaved(RvrunError):
    """A directory without a saved plan that can be run.

    - `runner`: options that choose the runner to save it for.
    """

    out: str
    problem: str
    runner: str = ""
    template = (
        "`--plan` must name a directory with a saved plan, got `{out}`: {problem}; save the plan "
        "there with `rvrun plan CONFIG{runner} --out {out}`"
    )
    fix = "save the plan with `rvrun plan CONFIG{runner} --out {out}`"


class PlanDiffers(RvrunError):
    """A saved plan that compiling does not give any more."""

    out: str
    problem: str
    exit_code = FAILED
    template = (
        "nothing was run, because compiling now does not give the plan saved in {out}:\n{problem}"
    )
    fix = "review the difference, and save the plan again with `rvrun plan CONFIG --out {out}`"


def with_request(prepared: Prepared, request: Request) -> Prepared:
    """Add the file that says what was asked for to the files of a plan that is saved."""
    document = {
        "rvrun_request": VERSION,
        "rvrun": __version__,
        "config": request.config,
        "runners": list(prepared.runners),
        "commands": list(request.commands),
        "until": list(request.until),
        "from": list(request.start),
        "force": list(request.forced),
        "always_make": request.force,
        "splits": list(request.splits),
        "args": dict(request.args),
        "templates": request.flags.get("templates"),
        "settings": _settings(prepared.runners, request),
    }
    return attrs.evolve(prepared, files={**prepared.files, FILE: to_text(document)})


def _settings(runners: Sequence[str], request: Request) -> dict[str, str]:
    """The settings that are not at their defaults and matter: they change what runs, or where.

    The sections of runners on this machine only change how fast it runs, and differ between
    machines. Of tables that may hold secrets there are only the names; their values are in the
    rendered files, if anywhere.
    """
    sections = [n for n in runners if find_runner(n).CAPABILITIES.detached]
    keys = SETTINGS if sections else SETTINGS[:2]
    return {
        option.key: option.shown
        for option in layers.options(request.flags, request.profile)
        if option.origin != "default"
        and (option.key in keys or option.key.partition(".")[0] in sections)
    }


def read_request(out: str) -> tuple[Request, tuple[str, ...]]:
    """Read what a saved plan was asked for, and the runners that it was rendered for.

    - `out`: its directory, or `plan.json` in it.

    Raises `NotSaved`.
    """
    out = _folder(out)
    path = pathlib.Path(out, FILE)
    if not path.exists():
        raise NotSaved(out, f"there is no {shorten(str(path))}")
    try:
        document = read_object(str(path))
    except CannotRead as error:
        raise NotSaved(out, f"{path} {error.problem}") from None
    if (version := document.get("rvrun_request")) != VERSION:
        raise NotSaved(out, f"{path} has version {quoted(version)}, this rvrun reads {VERSION}")
    _check_types(out, document)
    request = Request(
        config=document["config"],
        out=out,
        commands=document["commands"],
        until=document["until"],
        start=document["from"],
        forced=document["force"],
        force=document["always_make"],
        splits=document["splits"],
        args=document["args"],
        flags={"templates": document["templates"]},
    )
    return request, tuple(document["runners"])


def has_request(out: str) -> bool:
    """Whether `out` is a directory, or `plan.json` in it, with what a plan was saved for."""
    return pathlib.Path(_folder(out), FILE).exists()


def _folder(out: str) -> str:
    return (os.path.dirname(out) or ".") if os.path.basename(out) == paths.PLAN else out


def _check_types(out: str, document: Mapping[str, Any]) -> None:
    is_valid = {
        "config": _is_string,
        "templates": lambda value: value is None or _is_string(value),
        "args": lambda value: isinstance(value, dict) and all(map(_is_string, value.values())),
        "always_make": lambda value: isinstance(value, bool),
        **dict.fromkeys(STRINGS, _are_strings),
    }
    for key, is_right in is_valid.items():
        if not is_right(document.get(key)):
            problem = f"`{key}` of {FILE} has the wrong type: {quoted(document.get(key))}"
            raise NotSaved(out, problem)
    if not document["runners"]:
        raise NotSaved(out, f"`runners` of {FILE} is empty")


def _is_string(value: object) -> bool:
    return isinstance(value, str)


def _are_strings(value: object) -> bool:
    return isinstance(value, list) and all(map(_is_string, value))


def prepare_saved(saved: Request, runners: Sequence[str], request: Request) -> Prepared:
    """Compile what a saved plan was asked for again, for the runner of `request`.

    - `saved`, `runners`: from `read_request`. `request`: how to run it.

    Raises `NotSaved` if the plan was saved for other runners, and `PlanDiffers` if any file
    differs, is missing, or is new.
    """
    out = str(saved.out)
    if request.runner not in runners:
        names = ", ".join(f"`{name}`" for name in runners)
        options = "".join(f" --runner {name}" for name in (*runners, request.runner))
        raise NotSaved(out, f"it was saved for {names}, and not for `{request.runner}`", options)
    repeated = attrs.evolve(
        request,
        config=saved.config,
        out=out,
        commands=saved.commands,
        until=saved.until,
        start=saved.start,
        forced=saved.forced,
        force=request.force or saved.force,
        splits=saved.splits,
        args=saved.args,
        flags={**request.flags, **saved.flags},
    )
    # The first of the runners is the one that runs; the file has them in their order.
    others = [name for name in runners if name != request.runner]
    prepared = kept(prepare_all([request.runner, *others], repeated))
    ordered = attrs.evolve(prepared, runners=tuple(runners))
    files = with_request(ordered, attrs.evolve(repeated, force=saved.force)).files
    compiled = attrs.evolve(prepared, files=files)
    if lines := list(_differences(compiled)):
        raise PlanDiffers(out, "\n".join(lines))
    return compiled


def _differences(prepared: Prepared) -> Iterator[str]:
    """Yield which files differ from the saved ones, each with the lines that differ."""
    run_dir, out = prepared.run.run_dir, prepared.run.out
    # What inputs contain is a fact of this machine, and not of the plan.
    files = {p: t for p, t in prepared.files.items() if not p.startswith(f"{paths.INPUTS}/")}
    for path, text in files.items():
        try:
            saved = (run_dir / path).read_bytes().decode(errors="replace")
        except (FileNotFoundError, NotADirectoryError):
            yield f"{out}/{path} is missing"
            continue
        if saved.encode(errors="surrogateescape") != text.encode():
            yield f"{out}/{path}"
            yield from _changed_lines(saved, text)
    for path in strangers(run_dir, prepared.files, prepared.owned):
        yield f"{out}/{path} is not part of the plan any more"


def _changed_lines(saved: str, text: str) -> Iterator[str]:
    """Yield the first lines that differ, of the saved text with `-` and of the new one with `+`."""
    lines = difflib.unified_diff(saved.splitlines(), text.splitlines(), n=0, lineterm="")
    changed = [line for line in lines if not line.startswith(("---", "+++", "@@"))]
    yield from (f"  {shorten(line)}" for line in changed[:NUM_LINES])
    if len(changed) > NUM_LINES:
        yield f"  … and {count(len(changed) - NUM_LINES, 'more line')}"
    if not changed:
        yield "  only line ends differ"
