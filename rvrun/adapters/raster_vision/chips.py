"""Name the files that `chip` writes after their target, so that chips never count twice.

Each attempt of Raster Vision's `chip` adds a file `<uuid>.zip` to a folder, even if it fails half
way, and `train` reads all files in that folder. With a split for each scene, files are named after
their scenes instead of the number of the split, so that another scene leaves the others' as they
are.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
import zipfile
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from rastervision.pipeline.file_system import FileSystem

from rvrun.adapters.raster_vision.config import is_local
from rvrun.adapters.raster_vision.scenes import item_list
from rvrun.errors import RvrunError

#: The command that writes chips.
CHIP = "chip"
#: The command that reads them.
TRAIN = "train"
#: How many files a warning names.
NUM_NAMES = 5
#: The module whose `PyTorchLearnerSampleWriter` writes chips, for all kinds of pipelines.
WRITERS = "rastervision.pytorch_backend.pytorch_learner_backend"
#: The name of a file that a target of rvrun's wrote: its split, and the number of splits.
_NAME = re.compile(rf"{CHIP}-(\d+)-of-(\d+)-.*\.zip")
#: The same where there is a split for each scene: the digest of its scenes.
_SCENES_NAME = re.compile(rf"{CHIP}-([0-9a-f]{{16}}(?:\.\d+)?)-[0-9a-f]+-.*\.zip")


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


def leftovers(document: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is wrong with the files in a local folder of chips, as far as rvrun can tell."""
    folder = document["config"].get("chip_uri")
    if WRITERS in sys.modules and folder and is_local(folder):
        yield from _problems(folder, _list_unknown(folder))


@contextlib.contextmanager
def chips_named(
    pipeline: Any,
    document: Mapping[str, Any],
    command: str,
    split_ind: int,
    num_splits: int,
    *,
    warn: Callable[[str], None],
) -> Iterator[None]:
    """Name the chips that `command` writes after its target, and keep none if it raises.

    Chips that the same target, or targets of a different number of splits, wrote earlier are
    removed first; and before `train`, those of scenes that are not in the config any more. Other
    commands are not affected.

    - `document`: the saved config.
    - `warn`: receives what is wrong with the other files there, once of all splits of `chip`, and
      from `train`, which reads them.
    """
    folder = getattr(pipeline.config, "chip_uri", None)
    writers = sys.modules.get(WRITERS)
    if command not in (CHIP, TRAIN) or not folder or writers is None:
        yield
        return
    if split_ind == 0:
        for problem in _problems(folder, _list_unknown(folder)):
            warn(problem)
    digests = item_list(document["config"], CHIP).digests
    if command == TRAIN:
        # Nothing runs for a scene that was removed, other than `train`.
        extra = _list_chips_of_scenes(folder, without=digests)
        if _is_below(folder, str(pipeline.config.root_uri)):
            _remove_all(extra)
        elif extra:
            warn(_of_other_scenes(folder, extra))
        yield
        return
    prefix = _clear(folder, digests, split_ind, num_splits)
    with _writer_changed(writers.PyTorchLearnerSampleWriter, prefix):
        yield


def _clear(folder: str, digests: Sequence[str], split_ind: int, num_splits: int) -> str:
    """Remove what the chips of a target replace, and return how their file's name begins.

    - `digests`: those of the scenes of each split, if there is a split for each.
    """
    if num_splits != len(digests):
        _remove_stale_chips(folder, split_ind, num_splits)
        _remove_all(_list_chips_of_scenes(folder))
        return f"{CHIP}-{split_ind}-of-{num_splits}-"
    own = digests[split_ind]
    _remove_stale_chips(folder)
    _remove_all(_list_chips_of_scenes(folder, without=[d for d in digests if d != own]))
    return f"{CHIP}-{own}-"


def _is_below(folder: str, root: str) -> bool:
    """Whether a folder of chips is a run's own; another one may have the chips of several."""
    return folder.startswith(f"{root.rstrip('/')}/")


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


def _list_chips_of_scenes(folder: str, without: Collection[str] = ()) -> list[str]:
    """The files that are named after scenes, other than those with these digests."""
    matches = [(uri, _SCENES_NAME.fullmatch(_name(uri))) for uri in _list_zips(folder)]
    return [uri for uri, match in matches if match is not None and match[1] not in without]


def _remove_all(uris: Iterable[str]) -> None:
    for uri in uris:
        _remove(uri)


def _remove_stale_chips(folder: str, split_ind: int = 0, num_splits: int = 0) -> None:
    for uri in _list_zips(folder):
        match = _NAME.fullmatch(_name(uri))
        if match is not None and (int(match[2]) != num_splits or int(match[1]) == split_ind):
            _remove(uri)


def _name(uri: str) -> str:
    return uri.rpartition("/")[2]


def _list_unknown(folder: str) -> list[str]:
    """The files that no target of rvrun's wrote, and that `train` reads nevertheless."""
    return [
        uri
        for uri in _list_zips(folder)
        if not (_NAME.fullmatch(_name(uri)) or _SCENES_NAME.fullmatch(_name(uri)))
    ]


def _problems(folder: str, unknown: Sequence[str]) -> Iterator[str]:
    """What is wrong with files: a sentence for those that are incomplete, one for the others."""
    broken = [uri for uri in unknown if is_local(uri) and not zipfile.is_zipfile(uri)]
    if broken:
        yield (
            f"{folder} contains incomplete zip files, on which `train` will fail; remove them: "
            f"{_join(broken)}"
        )
    if rest := [uri for uri in unknown if uri not in broken]:
        yield (
            f"{folder} contains chips that are not from this run, and `train` will use them too; "
            f"remove them if you do not want that: {_join(rest)}"
        )


def _of_other_scenes(folder: str, uris: Sequence[str]) -> str:
    return (
        f"{folder} contains chips of scenes that are not in the config, and `train` will use them "
        f"too; remove them if you do not want that: {_join(uris)}"
    )


def _join(uris: Sequence[str]) -> str:
    more = f" and {len(uris) - NUM_NAMES} more" if len(uris) > NUM_NAMES else ""
    return ", ".join(map(_name, uris[:NUM_NAMES])) + more


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
