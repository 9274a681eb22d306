"""Ascending indices of splits as text, for environment variables. Light on purpose.

`0-3,7,9-12`, or, where that would be long, a map with a bit for each from the first on:
`5:AQID`, in base64. So 10,000 of them never take more than 1,700 characters.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

#: Longer lists are written as maps.
LONG = 1_000


def write(indices: Sequence[int]) -> str:
    """`0-3,7` for 0, 1, 2, 3 and 7; there must be one at least."""
    runs: list[list[int]] = []
    for index in indices:
        if runs and index == runs[-1][1] + 1:
            runs[-1][1] = index
        else:
            runs.append([index, index])
    text = ",".join(f"{first}" if first == last else f"{first}-{last}" for first, last in runs)
    return text if len(text) <= LONG else _write_map(indices)


def _write_map(indices: Sequence[int]) -> str:
    import base64

    first = indices[0]
    bits = bytearray((indices[-1] - first) // 8 + 1)
    for index in indices:
        bits[(index - first) // 8] |= 1 << (index - first) % 8
    return f"{first}:{base64.b64encode(bits).decode()}"


def read(text: str) -> list[int]:
    """The indices that `write` wrote. Raises ValueError for what it never writes."""
    found = _read_map(text) if ":" in text else _read_runs(text)
    # What is mistyped or cut off may still be read, as something else.
    if write(sorted(set(found))) != text:
        raise ValueError(f"{text!r} is no list of indices")
    return found


def _read_runs(text: str) -> list[int]:
    found: list[int] = []
    for run in text.split(","):
        first, _, last = run.partition("-")
        found.extend(range(int(first), int(last or first) + 1))
    return found


def _read_map(text: str) -> list[int]:
    import base64

    first, _, bits = text.partition(":")
    numbers = base64.b64decode(bits, validate=True)
    found = (
        8 * place + bit for place, byte in enumerate(numbers) for bit in range(8) if byte >> bit & 1
    )
    return [int(first) + index for index in found]
