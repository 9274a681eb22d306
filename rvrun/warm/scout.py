"""Find out in a child process which modules import withheld ones.

A module that is stopped half-way leaves traces: what it registered, libraries that can be loaded
only once. So a child process makes that experience, and this process then imports none of them.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence

from rvrun.prctl import ending_with_parent
from rvrun.warm.withholding import Withholding, withholding


def scout(load: Callable[[Withholding], None], names: Sequence[str]) -> set[str]:
    """Call `load` in a child process, and return the modules that import one of `names`.

    If the child does not get to the end, the result is what it found out before.
    """
    reading, writing = os.pipe()
    prepare = ending_with_parent()
    child = os.fork()
    if child == 0:
        # It must not run any code of the parent's, whatever happens.
        try:
            os.close(reading)
            if prepare:
                prepare()
            _report(load, names, writing)
        finally:
            os._exit(0)
    os.close(writing)
    with open(reading, encoding="utf-8") as pipe:
        refused = set(pipe.read().split("\n"))
    os.waitpid(child, 0)
    return refused - {""}


def _report(load: Callable[[Withholding], None], names: Sequence[str], descriptor: int) -> None:
    # What the user's code prints would appear twice.
    nowhere = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(nowhere, number)
    with open(descriptor, "w", encoding="utf-8") as pipe, withholding(names) as finder:
        with contextlib.suppress(Exception, SystemExit):
            load(finder)
        pipe.write("\n".join(sorted(finder.refused)))
