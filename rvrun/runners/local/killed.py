"""Find out how targets were killed, which therefore could not record their end themselves.

make waits for the targets, so only make learns by which signal one ended, or with which exit code
if the user's code called `os._exit`, and prints it. How long a target ran, and how much memory it
used, is seen by looking at its process while it runs.
"""

from __future__ import annotations

import locale
import pathlib
import re
import signal
import time
from collections.abc import Mapping, Sequence

import attrs

from rvrun import paths
from rvrun.rundir import records
from rvrun.rundir.freshness import StageStatus

#: `make: *** [Makefile:33: done/tiny/chip.4/0] Killed`; make 3.81 names no line of the Makefile.
_FAILED = re.compile(rf"^\S+: \*\*\* \[(?:[^]]+: )?{paths.DONE}/([^]]+)\] (.+)$")
#: The digest of a stage's items, which is in the names of stamps, but not of records.
_ITEMS = re.compile(r"(?<=\.)(\d+)-[0-9a-f]{8}/(?=\d+$)")
#: `Error 7`, in any language.
_ERROR = re.compile(r"^\S+ (\d{1,3})$")


@attrs.define
class _Sample:
    """What was last seen of a target's process; the peak of its resident memory is in KiB."""

    pid: int
    seen: float = attrs.field(factory=time.time)
    peak_memory_kib: int | None = None


@attrs.define
class Watch:
    """Looks at the processes of running targets, by the targets' names."""

    samples: dict[str, _Sample] = attrs.field(factory=dict)

    def started(self, target: str, pid: int) -> None:
        self.samples[target] = _Sample(pid)

    def ended(self, target: str) -> None:
        self.samples.pop(target, None)

    def look(self) -> None:
        """Note the time and the memory of each target whose process runs.

        Memory is read where Linux tells it, and only that of the process itself.
        """
        for sample in self.samples.values():
            peak = records.process_peak_kib(sample.pid)
            if peak is not None:
                sample.peak_memory_kib = peak
                sample.seen = time.time()


def record_killed(
    run_dir: pathlib.Path,
    statuses: Sequence[StageStatus],
    watch: Watch,
    log: pathlib.Path,
) -> None:
    """Record the end of targets that were killed, or ended themselves without a record.

    That is: the signal or the exit code, when the target was last seen, and its memory.

    - `log`: the output of make.
    """
    if not watch.samples:
        return
    ends = read_ends(log)
    targets = {target.name: target.path for status in statuses for target in status.targets()}
    for name, sample in watch.samples.items():
        path = targets.get(name)
        if path is None:
            continue
        record = str(run_dir / paths.record(path))
        lines, end = records.last_attempt(record)
        start = lines[0] if lines else {}
        # Another process may have started the target again.
        if end is None and start.get("pid") == sample.pid:
            line = {
                "event": "killed",
                "attempt": start["attempt"],
                "time": round(max(sample.seen, start["time"]), 3),
                **ends.get(path, {"signal": None}),
                "peak_memory_kib": sample.peak_memory_kib,
            }
            records.append(record, line)


def read_ends(log: pathlib.Path) -> dict[str, dict[str, int]]:
    """Return the `signal` or `exit_code` of targets, by their paths, from the output of make."""
    numbers = _signal_texts()
    ends = {}
    for line in log.read_text(encoding="utf-8", errors="replace").splitlines():
        if match := _FAILED.match(line):
            target, how = match.groups()
            target = _ITEMS.sub(r"\1/", target)
            texts = [text for text in numbers if how.startswith(text)]
            if texts:
                ends[target] = {"signal": numbers[max(texts, key=len)]}
            elif code := _ERROR.match(how):
                ends[target] = {"exit_code": int(code[1])}
    return ends


def _signal_texts() -> Mapping[str, int]:
    """Return the signals by the texts that make prints for them, in English and the user's locale.

    make uses strsignal(3), in the locale that the environment names.
    """
    texts: dict[str, int] = {}
    before = locale.setlocale(locale.LC_MESSAGES)
    try:
        for name in ("C", ""):
            try:
                locale.setlocale(locale.LC_MESSAGES, name)
            except locale.Error:
                continue
            texts |= {signal.strsignal(s) or str(s): int(s) for s in signal.valid_signals()}
    finally:
        locale.setlocale(locale.LC_MESSAGES, before)
    return texts
