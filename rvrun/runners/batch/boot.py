"""A few lines of Python that give another system's worker its split, in images without rvrun.

    python -c BOOT COMMAND ...

They run COMMAND with `--split-ind`, for the splits that `split_ranges.write` wrote to RVRUN_SPLITS.
Images of Raster Vision, for example, have its worker and Python but not rvrun.
"""

from __future__ import annotations

from collections.abc import Sequence

from rvrun import split_ranges
from rvrun.environment import SPLITS
from rvrun.runners.batch.api import ContainerOverrides, KeyValue

BOOT = """\
import base64, os, sys
text = os.environ["RVRUN_SPLITS"]
first, _, field = text.partition(":")
if field:
    bits = base64.b64decode(field)
    splits = [int(first) + i for i in range(8 * len(bits)) if bits[i // 8] >> i % 8 & 1]
else:
    runs = [run.partition("-") for run in text.split(",")]
    splits = [i for a, _, b in runs for i in range(int(a), int(b or a) + 1)]
split = splits[int(os.environ.get("AWS_BATCH_JOB_ARRAY_INDEX", "0"))]
os.execvp(sys.argv[1], [*sys.argv[1:], "--split-ind", str(split)])
"""


def prepend_boot(command: Sequence[str]) -> list[str]:
    """Return `command` so that it can run where RVRUN_SPLITS lists its splits.

    That is `command` itself if it needs no help: rvrun's worker reads the variable, and a command
    that is not split, or already has its split, ignores it.
    """
    lacks_split = "--num-splits" in command and "--split-ind" not in command
    if not lacks_split or "rvrun" in command or BOOT in command:
        return list(command)
    return ["python", "-c", BOOT, *command]


def for_splits(overrides: ContainerOverrides, splits: Sequence[int]) -> ContainerOverrides:
    """Return the overrides for children that run just these splits."""
    return for_split_list(overrides, split_ranges.write(splits))


def for_split_list(overrides: ContainerOverrides, text: str) -> ContainerOverrides:
    """Return the overrides for children that run the splits in `text`."""
    own: KeyValue = {"name": SPLITS, "value": text}
    others = [entry for entry in overrides.get("environment", ()) if entry.get("name") != SPLITS]
    return {
        **overrides,
        "command": prepend_boot(overrides["command"]),
        "environment": sorted([*others, own], key=lambda entry: entry.get("name", "")),
    }
