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
from collections.abc import Mapping

import attrs

from rvrun import paths
from rvrun.rundir import records
from rvrun.signals import SIGNALLED

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
    """Looks at the processes of running targets, by the targets' names.

    - `paths`: the targets' paths, as `paths.target` returns them, by name.
    - `log`: the output of make.
    """

    run_dir: pathlib.Path
    paths: Mapping[str, str]
    log: pathlib.Path
    samples: dict[str, _Sample] = attrs.field(factory=dict)

    def started(self, target: str, pid: int) -> None:
        self.samples[target] = _Sample(pid)

    def ended(self, target: str) -> None:
        self.samples.pop(target, None)

    def look(self) -> list[tuple[str, int]]:
        """Note the time and the memory of each target whose process runs.

        Memory is read where Linux tells it, and only that of the process itself. Returns the
        targets that were killed since the last look, each with its exit code.
        """
        is_any_gone = False
        for sample in self.samples.values():
            peak = records.process_peak_kib(sample.pid)
            if peak is not None:
                sample.peak_memory_kib = peak
                sample.seen = time.time()
            else:
                # Or its memory cannot be read on this system.
                is_any_gone = True
        return self._find_killed() if is_any_gone else []

    def _find_killed(self) -> list[tuple[str, int]]:
        """Record the targets whose end make has reported, and they have not; return their codes."""
        ends = read_ends(self.log)
        killed = []
        for name, sample in list(self.samples.items()):
            end = ends.get(self.paths.get(name, ""))
            if end is not None and self._record(name, sample, end):
                killed.append((name, end.get("exit_code", SIGNALLED + end.get("signal", 0))))
                self.ended(name)
        return killed

    def record_killed(self) -> None:
        """Record the end of targets that were killed, or ended themselves without a record.

        That is: the signal or the exit code, when the target was last seen, and its memory. Call it
        when none runs any more.
        """
        if not self.samples:
            return
        ends = read_ends(self.log)
        for name, sample in self.samples.items():
            end = ends.get(self.paths.get(name, ""), {"signal": None})
            self._record(name, sample, end)

    def _record(self, name: str, sample: _Sample, end: Mapping[str, int | None]) -> bool:
        """Record an end, unless the target did, or another process has started it again."""
        if name not in self.paths:
            return False
        record = str(self.run_dir / paths.record(self.paths[name]))
        lines, recorded = records.last_attempt(record)
        start = lines[0] if lines else {}
        if recorded is not None or start.get("pid") != sample.pid:
            return False
        line = {
            "event": "killed",
            "attempt": start["attempt"],
            "time": round(max(sample.seen, start["time"]), 3),
            **end,
            "peak_memory_kib": sample.peak_memory_kib,
        }
        records.append(record, line)
        return True


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
