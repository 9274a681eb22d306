"""The roots that stamps are for: a run directory is for one root per pipeline.

Its stamps are named by pipeline and command, so those of another root would make its targets stale,
and two runs at the same time would overwrite each other's stamps and config. Stamps of a root that
was removed count for nothing.
"""

from __future__ import annotations

import os
import pathlib
import re
from collections.abc import Mapping

from rvrun import paths
from rvrun.errors import RvrunError
from rvrun.inputs import CannotRead, parse_json, parse_object, read_text
from rvrun.pipelines.imports import ROOT_FILE


class OtherRoot(RvrunError):
    """A run directory in which targets are done for another root."""

    out: str
    pipeline: str
    old: str
    new: str
    suggestion: str
    template = (
        "run directory {out} has finished targets of pipeline `{pipeline}` for the root {old}, "
        "got the root {new}; choose another directory with --out {suggestion}"
    )
    fix = "add --out {suggestion}, or remove {out} if you do not need it any more"


def check_same_roots(run_dir: pathlib.Path, files: Mapping[str, str]) -> None:
    """Raise `OtherRoot` if a pipeline has stamps in `run_dir` and its root changed.

    - `files`: the rendered files, by path in `run_dir`.
    """
    for path, text in files.items():
        folder, _, name = path.rpartition("/")
        if folder != paths.CONFIGS:
            continue
        pipeline = name.removesuffix(".json")
        try:
            saved = read_text(str(run_dir / path))
            if saved == text:
                continue
            old, new = _root(saved, path), _root(text, path)
        except CannotRead:
            # A config that is missing or damaged is written again.
            continue
        if not _same(old, new) and _has_stamps(run_dir / paths.DONE / pipeline):
            out = os.path.relpath(run_dir)
            raise OtherRoot(out, pipeline, old or ".", new or ".", _suggest(out, old, new))


def is_lost(document: str) -> bool:
    """Whether a pipeline's root was removed, with everything that was done there.

    - `document`: the text of its saved config. False if the config names no file to look for.
    """
    # Only other systems' configs have the key: most texts need not be parsed.
    if f'"{ROOT_FILE}"' not in document:
        return False
    try:
        path = parse_object(document, ROOT_FILE).get(ROOT_FILE)
    except CannotRead:
        return False
    return isinstance(path, str) and not os.path.exists(path)


def _root(document: str, path: str) -> str:
    """The root URI in the text of a saved config; empty if it has none. Raises `CannotRead`."""
    values = parse_json(document, path)
    config = values.get("config") if isinstance(values, dict) else None
    return str(config.get("root_uri") or "") if isinstance(config, dict) else ""


def _same(old: str, new: str) -> bool:
    """Whether two roots are spellings of the same place; links are not followed."""
    if "://" in old or "://" in new:
        return old.rstrip("/") == new.rstrip("/")
    return os.path.normpath(old) == os.path.normpath(new)


def _has_stamps(folder: pathlib.Path) -> bool:
    return any(path.is_file() for path in folder.rglob("*"))


def _suggest(out: str, old: str, new: str) -> str:
    """The run directory's name, followed by the last part of the new root that the old one lacks.

    `runs/cfg`, `a/run`, `b/run` → `runs/cfg-b`.
    """
    parts, others = (root.rstrip("/").split("/") for root in (new, old))
    while len(parts) > 1 and others and parts[-1] == others[-1]:
        parts.pop()
        others.pop()
    last = re.sub(r"[^A-Za-z0-9._-]+", "-", parts[-1]).strip("-.") or "2"
    return f"{out}-{last}" if os.path.basename(out).strip(".") else f"runs/{last}"
