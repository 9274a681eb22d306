"""Numbers, durations and values as short strings for people.

Light on purpose: errors, which the worker of every target imports, format their facts with it.
"""

from __future__ import annotations

import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

MINUTE, HOUR = 60, 3600
#: Shorter durations are shown in milliseconds, as the page of a report does in its script.
SHORT_MS = 100
#: How many names of things are shown in one line.
NUM_NAMES = 3
#: The most characters of a value that a message shows.
MAX_SHOWN = 300


def count(number: int, thing: str) -> str:
    """Format a number of things: `1 stage`, `2 stages`, `10,000 targets`."""
    return f"{number:,} {thing}" + ("" if number == 1 else "s")


def enumerate_names(names: Sequence[str]) -> str:
    """Join names: `a`, `a and b`, `a, b and c`."""
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last


def name_some(names: Sequence[str]) -> str:
    """Join names, but only the first three: `a, b, c and 7 more`."""
    more = len(names) - NUM_NAMES
    return ", ".join(names[:NUM_NAMES]) + (f" and {more:,} more" if more > 0 else "")


def memory(kib: int) -> str:
    """Format an amount of memory: `53 MiB`, `2.7 GiB`."""
    mib = kib / 1024
    return f"{mib:,.0f} MiB" if mib < 1024 else f"{mib / 1024:,.1f} GiB"


def local_time(seconds: float) -> str:
    """Format a time in seconds since 1970 in the local time zone: `2026-01-02 03:04:05`."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def duration(seconds: float) -> str:
    """Format a duration: `23 ms`, `0.4 s`, `3 min 20 s`, `2 h 05 min`."""
    if abs(round(seconds * 1000)) < SHORT_MS:
        return f"{seconds * 1000:.0f} ms"
    if round(seconds, 1) < MINUTE:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < HOUR:
        return f"{whole // MINUTE} min {whole % MINUTE:02} s"
    return f"{whole // HOUR} h {whole % HOUR // MINUTE:02} min"


def short_duration(seconds: float) -> str:
    """Format a duration that may be much shorter than a second: `9 ms`, `0.4 s`."""
    return f"{seconds * 1000:.2g} ms" if seconds < 0.0995 else duration(seconds)


def shorten(string: str, limit: int = MAX_SHOWN) -> str:
    """Return `string`, or its beginning and its length if it is too long for a message."""
    if len(string) <= limit:
        return string
    return f"{string[:limit]}… ({count(len(string), 'character')})"


def quoted(value: object) -> str:
    """Return the `repr` of a value, shortened; never fails, whatever the value's `repr` does."""
    if isinstance(value, str | bytes) and len(value) > MAX_SHOWN:
        thing = "character" if isinstance(value, str) else "byte"
        return f"{value[:MAX_SHOWN]!r}… ({count(len(value), thing)})"
    try:
        return shorten(repr(value))
    except Exception:  # noqa: BLE001 - such as ValueError for an integer of 5,000 digits
        return f"a value of type {type(value).__name__} that cannot be shown"
