"""Ascending split indices as a compact string, for environment variables.

`0-3,7,9-12`, or, if that would be long, a bitmap in base64 that starts at the first index:
`5:AQID`. 10,000 consecutive splits or any subset of them take at most 1,700 characters.

Light on purpose: the worker of every target imports this module, so base64 is imported only when
there is a bitmap.
"""

from __future__ import annotations

import math

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

#: Longer ranges are written as a bitmap.
MAX_CHARACTERS = 1_000
#: Digits of an index: a mistyped range must not exhaust memory.
MAX_DIGITS = 8


def write(indices: Sequence[int]) -> str:
    """Write ascending indices, at least one, as ranges or as a bitmap."""
    text = write_ranges(indices)
    return text if len(text) <= MAX_CHARACTERS else _write_bitmap(indices)


def write_ranges(indices: Iterable[int]) -> str:
    """Write ascending indices as ranges, however long: `0-3,7` for 0, 1, 2, 3 and 7."""
    ranges: list[list[int]] = []
    for index in indices:
        if ranges and index == ranges[-1][1] + 1:
            ranges[-1][1] = index
        else:
            ranges.append([index, index])
    return ",".join(f"{first}" if first == last else f"{first}-{last}" for first, last in ranges)


def max_length(last: int, size: int) -> int:
    """Return the most characters that `write` needs for any of `size` indices up to `last`.

    Ranges are longest where they have two indices each: `0-1,3-4`, so `2d + 2` characters for
    three indices of `d` digits.
    """
    digits = len(str(last))
    ranges = (2 * digits + 2) * math.ceil(size / 3)
    if ranges <= MAX_CHARACTERS:
        return ranges
    # Base64 writes 24 bits as four characters.
    bitmap = digits + 1 + 4 * math.ceil(size / 24)
    return max(MAX_CHARACTERS, bitmap)


def _write_bitmap(indices: Sequence[int]) -> str:
    import base64

    first = indices[0]
    bitmap = bytearray((indices[-1] - first) // 8 + 1)
    for index in indices:
        bitmap[(index - first) // 8] |= 1 << (index - first) % 8
    return f"{first}:{base64.b64encode(bitmap).decode()}"


def read(text: str) -> list[int]:
    """Read indices as `write` writes them. Raises ValueError for anything else."""
    indices = _read_bitmap(text) if ":" in text else read_ranges(text)
    # A mistyped or truncated string may still parse, as other indices.
    if write(sorted(set(indices))) != text:
        raise ValueError(f"{text!r} is not a list of split indices")
    return indices


def read_ranges(text: str) -> list[int]:
    """Read indices as `write_ranges` writes them. Raises ValueError for anything else."""
    indices: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        if len(first) > MAX_DIGITS or len(last) > MAX_DIGITS:
            raise ValueError("an index is too large")
        indices.extend(range(int(first), int(last or first) + 1))
    return indices


def _read_bitmap(text: str) -> list[int]:
    import base64

    first, _, encoded = text.partition(":")
    bitmap = base64.b64decode(encoded, validate=True)
    return [
        int(first) + 8 * position + bit
        for position, byte in enumerate(bitmap)
        for bit in range(8)
        if byte >> bit & 1
    ]
