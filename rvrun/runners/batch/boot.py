"""A few lines of Python that tell a worker which split is its own, where there is no rvrun.

    python -c BOOT COMMAND ...

Runs COMMAND with `--split-ind` for what `indices.write` wrote into RVRUN_SPLITS. For images that
have another system's worker and Python, as those of Raster Vision have.
"""

from __future__ import annotations

from collections.abc import Sequence

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


def booted(command: Sequence[str]) -> list[str]:
    """`command` as it is run where `RVRUN_SPLITS` lists its splits.

    Itself where it needs no telling: rvrun reads that variable, and a join runs nothing.
    """
    is_waiting = "--num-splits" in command and "--split-ind" not in command
    if not is_waiting or "rvrun" in command or BOOT in command:
        return list(command)
    return ["python", "-c", BOOT, *command]
