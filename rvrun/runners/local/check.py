"""What `rvrun check` finds about this machine: make, its shell, CPUs."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator

from rvrun.cpus import num_cpus
from rvrun.finding import Finding, error, ok, warning
from rvrun.settings.schema import MachineSettings, Settings
from rvrun.text import count

OLDEST_MAKE = (3, 81)
SHELL = "/bin/sh"
#: Seconds that `make --version` may take.
TIMEOUT = 10


def check_machine(settings: Settings) -> Iterator[Finding]:
    """Yield whether Makefiles can run here: rvrun on PATH, make, the shell, the CPUs."""
    yield from _check_program()
    yield _check_make()
    yield _check_shell()
    jobs, cpus = settings.of(MachineSettings).jobs, num_cpus()
    yield ok("jobs", f"{count(jobs or cpus, 'target')} in parallel on {count(cpus, 'CPU')}")


def _check_program() -> Iterator[Finding]:
    """A Makefile calls `rvrun` by that name, unless RVRUN names another."""
    if shutil.which("rvrun") is None and "RVRUN" not in os.environ:
        text = "not on PATH: `rvrun run local` works, but `make` typed by hand does not"
        path = f"add {os.path.dirname(sys.executable)} to PATH"
        yield warning("rvrun", text, f"{path}, or type make RVRUN='{sys.executable} -P -m rvrun'")


def _check_make() -> Finding:
    """Whether make is on PATH, is GNU make, and is new enough for the Makefile."""
    make = shutil.which("make")
    install = "install GNU make: `apt-get install make`, or `xcode-select --install`"
    if make is None:
        return error(
            "make", "not found on PATH", f"{_gmake() or install}, or use --runner inprocess"
        )
    line = _version_line(make)
    version = re.match(r"GNU Make (?:version )?(\d+)\.(\d+)", line)
    if version is None:
        output = f"prints: {line}" if line else "prints nothing"
        text = f"{make} is not GNU make; `make --version` {output}"
        return error("make", text, _gmake() or install)
    if tuple(map(int, version.groups())) < OLDEST_MAKE:
        oldest = ".".join(map(str, OLDEST_MAKE))
        fix = _gmake() or f"install GNU Make {oldest} or newer, first on PATH"
        return error("make", f"{line} ({make}) is older than {oldest}", fix)
    return ok("make", f"{line} ({make})")


def _gmake() -> str:
    """How to use GNU make where it is installed under its other name; empty if it is not."""
    gmake = shutil.which("gmake")
    link = f"mkdir -p ~/bin && ln -s {gmake} ~/bin/make && export PATH=~/bin:$PATH"
    return f"GNU make is installed as gmake: `{link}`" if gmake else ""


def _version_line(make: str) -> str:
    """The first line that `make --version` prints, on either stream."""
    try:
        done = subprocess.run(
            [make, "--version"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=TIMEOUT,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as problem:
        return f"{type(problem).__name__}: {problem}"
    lines = done.stdout.decode(errors="replace").split("\n")
    return next((line.strip() for line in lines if line.strip()), "")


def _check_shell() -> Finding:
    """Whether the shell that runs recipes exists."""
    if os.access(SHELL, os.X_OK):
        return ok("shell", SHELL)
    fix = f"install a shell there, for example `ln -s $(command -v bash) {SHELL}`"
    return error("shell", f"there is no {SHELL}, which make uses for recipes", fix)
