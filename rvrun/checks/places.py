"""Checks of places: the run directory and the root URIs of pipelines."""

from __future__ import annotations

import fcntl
import os
import pathlib
import tempfile
from collections.abc import Iterator, Mapping

from rvrun import paths
from rvrun.adapters import registry as adapters
from rvrun.aws.storage import scheme
from rvrun.checks.case import Case
from rvrun.errors import RvrunError
from rvrun.finding import Finding, error, ok, warning
from rvrun.pipelines.declare import LoadedPipeline
from rvrun.prepare import RemoteRoot, check_local_roots
from rvrun.rundir.roots import OtherRoot, check_same_roots


def check_run_dir(case: Case) -> Iterator[Finding]:
    """Check that the run directory exists or can be created, is writable, and is not in use."""
    if case.out is None:
        return
    folder = pathlib.Path(case.out)
    another = "choose another with --out"
    if problem := folder_problem(folder, lock=True):
        yield error("run dir", f"{folder} cannot be used: {problem}", another)
    elif (folder / paths.MAKEFILE).exists() and not (folder / paths.PLAN).exists():
        yield error("run dir", f"{folder} has a Makefile that rvrun did not write", another)
    elif holder := _holder(folder / paths.LOCK):
        text = f"{folder} is in use by another rvrun (process {holder})"
        yield error("run dir", text, f"wait until it ends, or {another}")
    elif (other := _other_root(case)) is not None:
        yield error("run dir", other, other.how_to_fix())
    else:
        yield ok("run dir", f"{folder} {'is writable' if folder.exists() else 'can be created'}")


def _other_root(case: Case) -> OtherRoot | None:
    """The error of a run directory whose stamps are for another root; None if there is none."""
    if case.run is None or not isinstance(case.files, Mapping):
        return None
    try:
        check_same_roots(case.run.run_dir, case.files)
    except OtherRoot as problem:
        return problem
    return None


def _holder(lock: pathlib.Path) -> str:
    """The process that runs in a run directory; empty if there is none.

    The lock is shared, so that two checks do not take each other for a run.
    """
    try:
        with lock.open(encoding="ascii", errors="replace") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return file.read().strip() or "unknown"
    except OSError:
        pass
    return ""


def check_root_uris(case: Case) -> Iterator[Finding]:
    """Check that each pipeline's root can be read and written, as far as this machine can tell."""
    for pipeline in case.loaded:
        root = pipeline.root_uri
        name = f"{pipeline.name}: {root or '.'}"
        if storage := scheme(root):
            # A detached runner's own check has already asked the service.
            if case.detached is not None or isinstance(case.runner, RvrunError):
                continue
            try:
                check_local_roots([pipeline], case.runner)
            except RemoteRoot as refusal:
                yield error("root_uri", refusal)
                continue
            text = f"{name} is not checked: the pipeline's own code reads and writes {storage}"
            fix = f"make sure that its commands can access {storage} from here, or use a path"
            yield warning("root_uri", text, fix)
        elif problem := folder_problem(pathlib.Path(root)):
            key = "root" if case.request.config.endswith(".toml") else "root_uri"
            fix = f"change `{key}` in {case.request.config}, or make the directory writable"
            yield error("root_uri", f"{name} cannot be used: {problem}", fix)
        else:
            state = "is writable" if os.path.exists(root or ".") else "can be created"
            yield ok("root_uri", f"{name} {state}")


def check_shared_roots(case: Case) -> Iterator[Finding]:
    """Warn about pipelines that write below the same root."""
    users: dict[str, list[LoadedPipeline]] = {}
    for pipeline in case.loaded:
        root = pipeline.root_uri
        place = root.rstrip("/") if scheme(root) else os.path.realpath(root)
        users.setdefault(place, []).append(pipeline)
    for pipelines in users.values():
        if len(pipelines) > 1:
            names = ", ".join(pipeline.name for pipeline in pipelines)
            root = pipelines[0].root_uri
            text = f"{names} share {root} and may overwrite each other's files"
            yield warning("root_uri", text, f"give each its own, such as {root.rstrip('/')}/NAME")


def check_leftovers(case: Case) -> Iterator[Finding]:
    """Warn about files of earlier runs that commands would misuse."""
    for pipeline in case.loaded:
        adapter = adapters.of_document(pipeline.document)
        for text in adapter.leftovers(pipeline.document) if adapter else ():
            yield warning("files", f"{pipeline.name}: {text}", "remove these files")


def folder_problem(folder: pathlib.Path, *, lock: bool = False) -> str:
    """Return why `folder` cannot be read and written, or created; empty if it can.

    Tried with a file without a name, in it or in the nearest folder above, so nothing is left.
    """
    existing = nearest(folder)
    if not existing.is_dir():
        return f"{existing} is {'a file' if existing.is_file() else 'not a directory'}"
    if not os.access(existing, os.R_OK | os.W_OK | os.X_OK):
        return f"you have no permission to read and write {existing}"
    try:
        with tempfile.TemporaryFile(dir=existing) as file:
            file.write(b"x")
            file.flush()
            if lock:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as problem:
        action = "write and lock" if lock else "write"
        return f"cannot {action} a file in {existing}: {problem.strerror}"
    return ""


def nearest(path: pathlib.Path) -> pathlib.Path:
    """Return `path`, or the first folder above it that exists, if only as a dangling link."""
    full = pathlib.Path(os.path.abspath(path))
    existing = next(parent for parent in (full, *full.parents) if os.path.lexists(parent))
    return path if existing == full else existing
