"""The items that a split command shares out: their values, digests and labels.

An item is identified by its content: by a digest of its saved value. Equal items are numbered:
`DIGEST.2`. The list of a command's items is a file of the run directory:

    # The items of land/chip: `scenes`. Only the digests count.
    1f0c7a94e1b0d3aa  2  denver
    8c2f0a51d3b7e964  0  boulder

A line is a digest, the item's position in the config, and a label for people. Lines are sorted, so
that another order of the same items changes no digest and no line's place.

Light on purpose: the worker of every command with items imports it.
"""

from __future__ import annotations

import functools
import hashlib
import json

from rvrun.text import count

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

#: Hexadecimal digits of an item's digest: 64 bits, so that equal digests of different items are as
#: unlikely as one in ten billion for 60,000 items.
DIGITS = 16
#: The most characters of a label.
MAX_LABEL = 40
#: Fields that name an item, the best one first.
LABEL_FIELDS = ("name", "id", "path", "uri")


class ItemList:
    """The items of a command, in the order of the config.

    - `digests`: unique. `labels`: for people, by position.
    """

    __slots__ = ("digests", "labels")

    def __init__(self, digests: Sequence[str], labels: Sequence[str]) -> None:
        self.digests = tuple(digests)
        self.labels = tuple(labels)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ItemList) and self.digests == other.digests

    def __hash__(self) -> int:
        return hash(self.digests)

    def __len__(self) -> int:
        return len(self.digests)

    @property
    def digest(self) -> str:
        """`sha256:` and the digest of all items in their order."""
        return f"sha256:{_sha256(','.join(self.digests))}"


def make_list(values: Sequence[Any]) -> ItemList:
    """Return the list of items with these JSON values."""
    numbers: dict[str, int] = {}
    digests = []
    for value in values:
        digest = digest_of(value)
        number = numbers[digest] = numbers.get(digest, 0) + 1
        digests.append(digest if number == 1 else f"{digest}.{number}")
    field = _distinct_field(values)
    return ItemList(digests, [label_of(value, field) for value in values])


def _distinct_field(values: Sequence[Any]) -> str | None:
    """Return the first field that tells tables apart, such as a column `sample`; None if none."""
    if not values or not all(isinstance(value, dict) for value in values):
        return None
    for field in values[0]:
        names = [None if field[:1] == "$" else value.get(field) for value in values]
        if all(map(_is_name, names)) and len(set(names)) == len(names):
            return str(field)
    return None


def _is_name(value: Any) -> bool:
    return isinstance(value, str | int) and value != ""


def digest_of(value: Any) -> str:
    """Return the digest of an item's JSON value, without a number for equal items."""
    return _sha256(json.dumps(value, sort_keys=True, separators=(",", ":")))[:DIGITS]


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def label_of(value: Any, field: str | None = None) -> str:
    """Return how people know an item: itself if it is short, or a field that names it.

    - `field`: one that does if no other does; None if none is known.
    """
    if isinstance(value, dict):
        fields = LABEL_FIELDS if field is None else (*LABEL_FIELDS, field)
        value = next((name for f in fields if _is_name(name := value.get(f))), value)
    elif isinstance(value, list) and value and isinstance(value[0], str) and value[0]:
        # A named tuple begins with what names it.
        value = value[0]
    if isinstance(value, dict):
        value = {key: part for key, part in value.items() if not key.startswith("$")}
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    text = " ".join(text.split()) if text.isprintable() else json.dumps(text)
    return text if len(text) <= MAX_LABEL else f"{text[: MAX_LABEL - 1]}…"


def to_text(command: str, field: str, items: ItemList) -> str:
    """Format a list of items as the text of its file.

    - `command`: for the heading, `land/chip`. `field`: the path of the items.
    """
    lines = [
        f"{digest}  {position}  {label}\n"
        for position, (digest, label) in enumerate(zip(items.digests, items.labels, strict=True))
    ]
    heading = (
        f"# The {count(len(items), 'item')} of {command}: `{field}`. Only the digests count.\n"
    )
    return heading + "".join(sorted(lines))


@functools.lru_cache(maxsize=8)  # read once for each look at a run directory
def from_text(text: str) -> ItemList | None:
    """Parse the text of a list's file; None if it is damaged."""
    lines = [line.split("  ", 2) for line in text.splitlines() if not line.startswith("#")]
    digests, labels = [""] * len(lines), [""] * len(lines)
    try:
        for digest, position, label in lines:
            digests[int(position)], labels[int(position)] = digest, label
    except (ValueError, IndexError):
        return None
    return ItemList(digests, labels) if all(digests) else None


def is_same(old: str, new: str) -> bool:
    """Whether two texts list the same items, in whatever order and with whatever labels."""
    return old == new or _digests(old) == _digests(new)


def _digests(text: str) -> list[str]:
    lines = (line for line in text.splitlines() if not line.startswith("#"))
    return [line.partition("  ")[0] for line in lines]
