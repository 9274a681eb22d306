"""Check that a target's own process, which does not call `get_config`, can build its pipeline."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence

from rvrun.checks.case import Case
from rvrun.environment import INTERNAL
from rvrun.finding import Finding, error, ok
from rvrun.pipelines.declare import LoadedPipeline
from rvrun.render.files import to_text

#: What each target does before its command. Its argument is the path of a saved config.
BUILD = """
import sys
from rvrun.errors import RvrunError
from rvrun.tracebacks import print_error, print_traceback
from rvrun.worker.pipeline import built, read_document
try:
    with built(read_document(sys.argv[1]), sys.argv[1]):
        pass
except RvrunError as error:
    print_error(error)
    sys.exit(error.exit_code)
except BaseException as error:
    print_traceback(error.with_traceback(error.__traceback__.tb_next))
    sys.exit(1)
"""


def check_targets(case: Case) -> Iterator[Finding]:
    """Build each pipeline in a process of its own, and report how long that takes."""
    if not case.is_isolated:
        return
    seconds = []
    for pipeline in case.loaded:
        start = time.perf_counter()
        done = _build(pipeline)
        if done.returncode == 0:
            seconds.append(time.perf_counter() - start)
        else:
            yield _failure(pipeline.name, done)
    if seconds:
        yield ok("targets", f"each can build its pipeline in its own process; {_took(seconds)}")


def _took(seconds: Sequence[float]) -> str:
    least, most = (round(bound(seconds) * 1000) for bound in (min, max))
    return f"starting takes {most} ms" if least == most else f"starting takes {least} to {most} ms"


def _build(pipeline: LoadedPipeline) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name not in INTERNAL}
    with tempfile.NamedTemporaryFile("w", suffix=".json", encoding="utf-8") as document:
        document.write(to_text(pipeline.document))
        document.flush()
        return subprocess.run(
            # -P, as `rvrun run` starts targets: the current folder must not hide our imports.
            [sys.executable, "-P", "-c", BUILD, document.name],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )


def _failure(name: str, done: subprocess.CompletedProcess[str]) -> Finding:
    output = done.stderr.rstrip()
    last = output.rpartition("\n")[2].removeprefix("rvrun: ") or f"exit code {done.returncode}"
    fix = (
        "targets import the config's module but do not call `get_config`: move whatever they also "
        "need (`sys.path`, imports) to the top of the module, or make it importable with PYTHONPATH"
    )
    text = f"{name} cannot be built in a process of its own: {last}"
    return error("targets", text, fix, f"{output}\n" if "\n" in output else "")
