"""Name the files that `chip` writes after their target, so that chips never count twice.

Each attempt of Raster Vision's `chip` adds a file `<uuid>.zip` to a folder, even if it fails half
way, and `train` reads all files in that folder.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from rastervision.pipeline.file_system import FileSystem

from rvrun.adapters.raster_vision.config import is_local
from rvrun.errors import RvrunError

#: The command that writes chips.
CHIP = "chip"
#: The module whose `PyTorchLearnerSampleWriter` writes chips, for all kinds of pipelines.
WRITERS = "rastervision.pytorch_backend.pytorch_learner_backend"
#: The name of a file that a target of rvrun's wrote: its split, and the number of splits.
_NAME = re.compile(rf"{CHIP}-(\d+)-of-(\d+)-.*\.zip")


class StaleChips(RvrunError):
    """Chips of an earlier attempt that cannot be removed."""

    uri: str
    template = "{uri} is from an earlier attempt, and `train` would use it too; remove it"
    fix = "remove {uri}"


def repeated(document: Mapping[str, Any]) -> Mapping[str, str]:
    """Return the effect of a second attempt of `chip` by Raster Vision's own worker."""
    if WRITERS in sys.modules and document["config"].get("chip_uri"):
        folder = document["config"]["chip_uri"]
        return {CHIP: f"adds files to those of the first one in {folder}, and `train` uses both"}
    return {}


@contextlib.contextmanager
def chips_named(pipeline: Any, command: str, split_ind: int, num_splits: int) -> Iterator[None]:
    """Name the chips that `command` writes after its target, and keep none if it raises.

    Chips that the same target, or targets of a different number of splits, wrote earlier are
    removed first. Other commands are not affected.
    """
    folder = getattr(pipeline.config, "chip_uri", None)
    writers = sys.modules.get(WRITERS)
    if command != CHIP or not folder or writers is None:
        yield
        return
    _remove_stale_chips(folder, split_ind, num_splits)
    prefix = f"{CHIP}-{split_ind}-of-{num_splits}-"
    with _writer_changed(writers.PyTorchLearnerSampleWriter, prefix):
        yield


@contextlib.contextmanager
def _writer_changed(writer: Any, prefix: str) -> Iterator[None]:
    """Let `writer` add `prefix` to its file's name, and write no file after an exception.

    The method is replaced, as a subclass would not be used: backends derive their own writers.
    """
    leave = writer.__exit__

    def leave_named(self: Any, kind: Any, value: Any, traceback: Any) -> Any:
        if kind is not None:
            self.tmp_dir_obj.cleanup()
            return None
        folder, _, name = self.output_uri.rpartition("/")
        self.output_uri = f"{folder}/{prefix}{name}"
        return leave(self, kind, value, traceback)

    writer.__exit__ = leave_named
    try:
        yield
    finally:
        writer.__exit__ = leave


def _remove_stale_chips(folder: str, split_ind: int, num_splits: int) -> None:
    unknown = []
    for uri in _list_zips(folder):
        name = uri.rpartition("/")[2]
        match = _NAME.fullmatch(name)
        if match is None:
            unknown.append(name)
        elif int(match[2]) != num_splits or int(match[1]) == split_ind:
            _remove(uri)
    # All splits see the same files; one warning is enough.
    if unknown and split_ind == 0:
        print(
            f"rvrun: warning: {folder} contains chips that are not from this run, and `train` "
            f"will use them too; remove them if you do not want that: {', '.join(unknown)}",
            file=sys.stderr,
        )


def _list_zips(folder: str) -> list[str]:
    if not is_local(folder):
        return list(FileSystem.get_file_system(folder, "r").list_paths(folder, ext="zip"))
    if not os.path.isdir(folder):
        return []
    # Not Raster Vision's own listing, which takes a `[` in the path for a pattern.
    names = sorted(name for name in os.listdir(folder) if name.endswith(".zip"))
    return [f"{folder.rstrip('/')}/{name}" for name in names]


def _remove(uri: str) -> None:
    if is_local(uri):
        # Several splits may remove the same file at the same time.
        with contextlib.suppress(FileNotFoundError):
            os.remove(uri)
        return
    system = FileSystem.get_file_system(uri, "w")
    # Raster Vision's file systems cannot remove files; the one for S3 has a client that can.
    if not hasattr(system, "get_client") or not uri.startswith("s3://"):
        raise StaleChips(uri)
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    system.get_client().delete_object(Bucket=bucket, Key=key)
