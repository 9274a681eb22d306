"""Paths that commands declare: globs, placeholders for splits, and which of them overlap. Pure.

This module imports little, because workers of commands that declare files import it.
"""

from __future__ import annotations

import fnmatch
import functools
import re

from rvrun.path_parts import path_parts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from typing import Any

#: Any number of folders, as a whole part of a path.
FOLDERS = "**"
SPLIT_IND, NUM_SPLITS = "split_ind", "num_splits"
#: The placeholder of an item, and the beginning of those of its fields.
ITEM = "item"
#: Letters, digits and what neither make nor the shell gives a meaning.
_PLAIN = re.compile(r"[\w./+@-]+")
_WITHOUT_GLOB = str.maketrans("", "", "*?[]!")
#: A doubled brace, a placeholder, or a brace that is neither.
_TOKEN = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")


def is_glob(path: str) -> bool:
    """Whether a path has a character that stands for others."""
    return any(character in path for character in "*?[")


def describe_absence(path: str) -> str:
    """Return what is wrong with a declared path where nothing is, without its subject."""
    return "matches no file" if is_glob(path) else "does not exist"


def is_plain(path: str, *, may_be_glob: bool = False) -> bool:
    """Whether a Makefile can contain a path as it is.

    - `may_be_glob`: whether make may look for what matches it; it does not know `**`.
    """
    if may_be_glob and FOLDERS not in path.split("/"):
        path = path.translate(_WITHOUT_GLOB)
    return _PLAIN.fullmatch(path) is not None


def seen_from(workdir: str, path: str) -> str:
    """Return a path of the working directory as it is called where that is called `workdir`."""
    return path if path.startswith("/") else f"{workdir}/{path}"


def is_inside(folder: str, path: str) -> bool:
    """Whether a path is a folder or in it; both are absolute or relative to the same folder."""
    return path == folder or path.startswith(f"{folder.rstrip('/')}/")


def own_files(inputs: Iterable[str], produced: Sequence[str]) -> list[str]:
    """Return the declared inputs that are paths on this machine and that no stage writes."""
    return [
        path
        for path in inputs
        if not is_glob(path)
        and "://" not in path
        and not any(overlap(path, other) for other in produced)
    ]


def placeholders(template: str) -> list[str]:
    """Return the names in braces, in their order. Raises ValueError for a single brace."""
    names = []
    for token in _TOKEN.finditer(template):
        if token[0] in "{}":
            raise ValueError(f"`{token[0]}` at offset {token.start()} must be doubled")
        if token[1] is not None:
            names.append(token[1])
    return names


def fill(template: str, values: Mapping[str, str]) -> str:
    """Replace placeholders by `values`, which has all of them, and halve doubled braces."""
    return _TOKEN.sub(lambda token: values[token[1]] if token[1] else token[0][0], template)


def escape(text: str) -> str:
    """Double the braces of a text that becomes part of a template."""
    return text.replace("{", "{{").replace("}", "}}")


def is_per_split(output: str) -> bool:
    """Whether each split has its own file of a declared output."""
    return SPLIT_IND in placeholders(output)


def is_item_name(placeholder: str) -> bool:
    """Whether a placeholder stands for an item or a field of it."""
    return placeholder.partition(".")[0] == ITEM


def is_per_item(output: str) -> bool:
    """Whether each item has its own file of a declared output."""
    return any(map(is_item_name, placeholders(output)))


def is_of_stage(output: str) -> bool:
    """Whether neither a split nor an item has its own file of a declared output."""
    return not is_per_split(output) and not is_per_item(output)


def item_path(output: str, item: Any) -> str:
    """Return the path of a declared output for an item.

    - `item`: its JSON value. A string is a path, with the fields `name`, `stem`, `suffix` and
      `parent`. Raises KeyError for a field that it does not have.
    """
    parts = _parts_of(output)
    return "".join([part if isinstance(part, str) else str(_look_up(item, part)) for part in parts])


@functools.lru_cache(maxsize=100)
def _parts_of(output: str) -> list[str | list[str]]:
    """Split a template into texts, and lists of the fields that its placeholders name."""
    parts: list[str | list[str]] = []
    end = 0
    for token in _TOKEN.finditer(output):
        parts.append(output[end : token.start()])
        parts.append(token[0][0] if token[1] is None else token[1].split(".")[1:])
        end = token.end()
    return [part for part in (*parts, output[end:]) if part != ""]


def _look_up(item: Any, fields: Sequence[str]) -> Any:
    for field in fields:
        if isinstance(item, str):
            item = path_parts(item)
        if not isinstance(item, dict):
            raise KeyError(field)
        item = item[field]
    return item


def output_path(output: str, split_ind: int | str | None, num_splits: int | None) -> str:
    """Return the path of a declared output, which may be a glob, for one split."""
    return fill(output, {SPLIT_IND: str(split_ind), NUM_SPLITS: str(num_splits)})


def any_split(output: str) -> str:
    """Return a declared output as a glob that matches the files of all splits and items."""
    return fill(output, dict.fromkeys(placeholders(output), "*"))


def covers(pattern: str, path: str) -> bool:
    """Whether a path, or a folder that it is in, is `pattern` or matches it."""
    if is_inside(pattern, path):
        return True
    return is_glob(pattern) and _expression(pattern).match(path) is not None


@functools.cache
def _expression(pattern: str) -> re.Pattern[str]:
    """Compile a regular expression for the paths that a glob covers."""
    parts = [
        r"(?:[^/]+/)*" if part == FOLDERS else f"{''.join(_part_expressions(part))}/"
        for part in pattern.split("/")
    ]
    text = "".join(parts)
    # The last part ends the path, or is followed by the rest below a folder.
    return re.compile(f"{text[:-1]}(?:/|$)" if text.endswith("/") else f"{text}[^/]+", re.DOTALL)


def _part_expressions(part: str) -> Iterator[str]:
    for piece in _pieces(part):
        if piece == "*":
            yield "[^/]*"
        elif piece == "?":
            yield "[^/]"
        elif len(piece) > 1:
            yield f"[{'^' if piece[1] == '!' else ''}{_members(piece)}]"
        else:
            yield re.escape(piece)


def _members(piece: str) -> str:
    members = piece[1:-1].removeprefix("!")
    return members.replace("\\", "\\\\").replace("^", "\\^").replace("[", "\\[").replace("]", "\\]")


def _pieces(part: str) -> list[str]:
    """Split a part of a path into single characters and sets such as `[ab]`."""
    return re.findall(r"\[!?\]?[^\]]*\]|.", part, flags=re.DOTALL)


def overlap(one: str, other: str, *, is_likely: bool = False) -> bool:
    """Whether a file may be covered by two patterns, of which one may be a folder of the other.

    Sets such as `[ab]` on both sides count as equal: what cannot be excluded is possible.

    - `is_likely`: do not take what a glob matches for folders: `*.npy` are probably files.
    """
    parts = (tuple(one.split("/")), tuple(other.split("/")))
    ours, theirs = (
        not is_likely or names[-1] == FOLDERS or not is_glob(names[-1]) for names in parts
    )
    return _parts_overlap(*parts, (ours, theirs))


def by_folder(paths: Iterable[str]) -> dict[str, list[str]]:
    """Return paths by the folders that they are in, which end with a slash."""
    folders: dict[str, list[str]] = {}
    for path in paths:
        folder, slash, _ = path.rpartition("/")
        folders.setdefault(f"{folder}{slash}", []).append(path)
    return folders


def find_overlap(
    folders: Mapping[str, Sequence[str]], other: str, *, is_likely: bool = False
) -> str | None:
    """Return the first of many patterns that overlaps with another one; None if none does.

    - `folders`: the patterns, as `by_folder` returns them: no others are looked at in a folder that
      cannot have such files. `is_likely`: as in `overlap`.
    """
    for folder, paths in folders.items():
        if len(paths) == 1 or overlap(f"{folder}*", other):
            for path in paths:
                if overlap(path, other, is_likely=is_likely):
                    return path
    return None


def _parts_overlap(
    one: tuple[str, ...], other: tuple[str, ...], are_folders: tuple[bool, bool]
) -> bool:
    """Whether the rests of two patterns overlap; `are_folders`: which of them may be a folder."""
    if not one or not other:
        return not (one or other) or are_folders[1 if one else 0]
    if one[0] == FOLDERS:
        pairs = [(one[1:], other), (one, other[1:])]
    elif other[0] == FOLDERS:
        pairs = [(one, other[1:]), (one[1:], other)]
    elif _names_overlap(one[0], other[0]):
        pairs = [(one[1:], other[1:])]
    else:
        return False
    return any(_parts_overlap(*pair, are_folders) for pair in pairs)


def _names_overlap(one: str, other: str) -> bool:
    if not is_glob(one):
        return one == other or (is_glob(other) and fnmatch.fnmatchcase(one, other))
    if not is_glob(other):
        return fnmatch.fnmatchcase(other, one)
    return _pieces_overlap(_pieces(one), _pieces(other))


def _pieces_overlap(one: Sequence[str], other: Sequence[str]) -> bool:
    """Whether two sequences of pieces have a common name, by the pairs of positions reached."""
    reached, todo = set(), [(0, 0)]
    while todo:
        left, right = position = todo.pop()
        if position in reached:
            continue
        reached.add(position)
        if left == len(one) and right == len(other):
            return True
        ours = one[left] if left < len(one) else ""
        theirs = other[right] if right < len(other) else ""
        if ours == "*":
            todo += [(left + 1, right), *([(left, right + 1)] if theirs else [])]
        if theirs == "*":
            todo += [(left, right + 1), *([(left + 1, right)] if ours else [])]
        if ours and theirs and "*" not in (ours, theirs) and _may_equal(ours, theirs):
            todo.append((left + 1, right + 1))
    return False


def _may_equal(one: str, other: str) -> bool:
    if len(one) > 1 and len(other) > 1:
        return True
    if len(one) > 1 or one == "?":
        return other == "?" or fnmatch.fnmatchcase(other, one)
    return one == other or fnmatch.fnmatchcase(one, other)
