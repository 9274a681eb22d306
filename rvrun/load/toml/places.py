"""Errors of placeholders and items, with the place in the file that they are about."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

from rvrun.inputs import CannotRead
from rvrun.load.toml.items import BadItems
from rvrun.load.toml.kinds import Path, name_of
from rvrun.load.toml.read import Source
from rvrun.programs.template import BadTemplate

#: The first placeholder that a message names.
_PLACEHOLDER = re.compile(r"`(\{[^`]*\})`")


@contextlib.contextmanager
def locating(source: Source, path: Path) -> Iterator[None]:
    """Turn errors about the value at `path` into `BadFile`."""
    try:
        yield
    except (BadTemplate, BadItems) as error:
        problem, _, remedy = str(error).rpartition("; ")
        named = _PLACEHOLDER.search(problem)
        source.fail(path, f"{name_of(path)} {problem}", remedy, part=named[1] if named else "")
    except CannotRead as error:
        source.fail(path, f"{name_of(path)}: {error.path} {error.problem}", error.remedy)
