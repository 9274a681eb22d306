"""Read what users can get wrong: files, JSON, TOML, numbers. All problems are `RvrunError`s.

Every file that rvrun reads as a document is read here, so that a directory, a FIFO, bytes that are
not UTF-8 or a number of 5,000 digits is one sentence wherever it comes from.

Light on purpose: the worker of every target reads its config with it.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat

from rvrun.errors import Problem, RvrunError
from rvrun.text import quoted, shorten

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

#: The largest document; a saved config or a plan of 10,000 stages has less than 10 MB.
MAX_BYTES = 64 << 20
#: The most levels of objects and lists in a document. Recursive code must be able to visit it, and
#: Python's limit is 1,000 calls.
MAX_DEPTH = 100
#: The most digits of a number in an option, a variable or a file name: such a number fits into 64
#: bits. Python refuses to convert more than 4,300.
MAX_DIGITS = 18
#: What to do about a file with wrong content, where no reader knows better.
CORRECT = "correct that file"


class CannotRead(RvrunError):
    """A file that cannot be read, or whose content is not what it must be.

    - `problem`: continues "it". `remedy`: what to do, as an imperative.
    """

    path: str
    problem: str
    remedy: str = CORRECT
    template = "{path}: {problem}; {remedy}"
    fix = "{remedy}"


class CannotWrite(RvrunError):
    """A file that cannot be written."""

    path: str
    problem: str
    template = "{path} cannot be written: {problem}; free space, or make it writable"
    fix = "free space, or make {path} writable"


class NotUtf8(RvrunError):
    """A string of the operating system that is not UTF-8.

    Configs, plans and Makefiles are UTF-8, so it could not be saved.
    """

    kind: str
    value: bytes
    template = "{kind} must be UTF-8, got {value!r}; rename it or leave it out"
    fix = "rename {value!r} or leave it out"


class SystemProblem(Problem):
    """What the operating system refused, such as a full disk."""


class NoCurrentDirectory(RvrunError):
    """The current directory was deleted."""

    template = "the current directory does not exist any more; change to another with `cd`"
    fix = "change to another directory with `cd`"


def from_os_error(error: OSError) -> RvrunError:
    """Return what the operating system refused as an error that names the file."""
    try:
        os.getcwd()
    except OSError:
        # Every relative path fails then, with a message that names some innocent file.
        return NoCurrentDirectory()
    file = "" if error.filename is None else f": {shorten(os.fsdecode(error.filename))}"
    return SystemProblem(f"{error.strerror or error}{file}")


@contextlib.contextmanager
def writing(path: str) -> Iterator[None]:
    """Turn what the operating system refuses within into `CannotWrite`."""
    try:
        yield
    except OSError as error:
        name = os.fsdecode(error.filename) if error.filename else path
        raise CannotWrite(name, str(error.strerror or error)) from None


def check_arguments(arguments: Iterable[str]) -> None:
    """Raise `NotUtf8` unless all command-line arguments are UTF-8.

    One rule for all of them: most become part of a config, a plan or a Makefile.
    """
    for argument in arguments:
        check_utf8("an argument", argument)


def check_utf8(kind: str, string: str) -> None:
    """Raise `NotUtf8` if a string of the operating system had bytes that are not UTF-8.

    - `kind`: what it is, with an article.
    """
    if not is_unicode(string):
        raise NotUtf8(kind, os.fsencode(string))


def is_unicode(string: str) -> bool:
    """Whether a string can be encoded as UTF-8: it has no surrogates."""
    try:
        string.encode()
    except UnicodeEncodeError:
        return False
    return True


def parse_integer(string: str) -> int | None:
    """Parse a non-negative integer in ASCII digits; None for any other string."""
    if not (string.isascii() and string.isdigit() and len(string) <= MAX_DIGITS):
        return None
    return int(string)


def read_bytes(path: str, remedy: str = CORRECT) -> bytes:
    """Return the content of a regular file. Raises `CannotRead`.

    - `remedy`: what to do if it cannot be read, as an imperative.
    """
    try:
        with open(path, "rb", opener=_open_without_waiting) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise CannotRead(path, "must be a regular file", remedy)
            if status.st_size > MAX_BYTES:
                limit = f"must not be larger than {MAX_BYTES >> 20} MiB"
                raise CannotRead(path, f"{limit}, got {status.st_size >> 20:,} MiB", remedy)
            return file.read()
    except OSError as error:
        if isinstance(reason := from_os_error(error), NoCurrentDirectory):
            raise reason from None
        raise CannotRead(path, f"cannot be read: {error.strerror or error}", remedy) from None
    except ValueError:
        # From a saved config, as no argument can contain one.
        raise CannotRead(path, "must not have a NUL character in its path", remedy) from None


def _open_without_waiting(path: str, flags: int) -> int:
    # Opening a FIFO waits for a writer, perhaps forever, unless it is opened like this.
    return os.open(path, flags | os.O_NONBLOCK)


def read_text(path: str, remedy: str = CORRECT) -> str:
    """Return the content of a UTF-8 file, without a byte order mark. Raises `CannotRead`."""
    return decode(read_bytes(path, remedy), path, remedy)


def decode(content: bytes, path: str, remedy: str = CORRECT) -> str:
    """Decode the UTF-8 content of the file at `path`. Raises `CannotRead`."""
    try:
        return content.removeprefix(b"\xef\xbb\xbf").decode()
    except UnicodeDecodeError as error:
        byte = f"byte 0x{content[error.start]:02x} at offset {error.start:,}"
        raise CannotRead(path, f"is not UTF-8 ({byte})", remedy) from None


def read_json(path: str, remedy: str = CORRECT) -> Any:
    """Return the values in a JSON file. Raises `CannotRead`."""
    return parse_json(read_bytes(path, remedy), path, remedy)


def parse_json(content: bytes | str, path: str, remedy: str = CORRECT) -> Any:
    """Parse the JSON content of the file at `path`. Raises `CannotRead`.

    Stricter than `json.loads`: no duplicate keys, of which all values but one would be lost without
    notice, no surrogates, which cannot be saved as UTF-8, and not more than `MAX_DEPTH` levels.
    """
    text = decode(content, path, remedy) if isinstance(content, bytes) else content
    try:
        values = json.loads(text, object_pairs_hook=_without_duplicates)
        # Only an escape can make a surrogate of UTF-8, so most files need no search.
        if "\\ud" in text.lower():
            json.dumps(values, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        problem = "must not have a string with half of a surrogate pair"
        raise CannotRead(path, problem, remedy) from None
    except RecursionError:
        raise _too_deep(path, remedy) from None
    except json.JSONDecodeError as error:
        raise CannotRead(path, f"is not JSON ({error})", remedy) from None
    except _Duplicate as error:
        raise CannotRead(path, str(error), remedy) from None
    except ValueError:
        raise CannotRead(path, "must not have a number of more than 4,300 digits", remedy) from None
    # A document with few brackets cannot be deep, so only large ones are visited.
    if text.count("[") + text.count("{") > MAX_DEPTH:
        _check_depth(values, path, remedy)
    return values


def parse_object(content: bytes | str, path: str, remedy: str = CORRECT) -> dict[str, Any]:
    """Parse the content of a file that must be a JSON object. Raises `CannotRead`."""
    values = parse_json(content, path, remedy)
    if not isinstance(values, dict):
        raise CannotRead(path, f"must be a JSON object, got {quoted(values)}", remedy)
    return values


def read_object(path: str, remedy: str = CORRECT) -> dict[str, Any]:
    """Return the values in a file that must be a JSON object. Raises `CannotRead`."""
    return parse_object(read_bytes(path, remedy), path, remedy)


def read_toml(path: str, remedy: str = CORRECT) -> dict[str, Any]:
    """Return the values in a TOML file. Raises `CannotRead`."""
    return parse_toml(read_text(path, remedy), path, remedy)


def parse_toml(text: str, path: str, remedy: str = CORRECT) -> dict[str, Any]:
    """Parse the TOML of the file at `path`. Raises `CannotRead`."""
    import tomllib

    try:
        values = tomllib.loads(text)
    except RecursionError:
        raise _too_deep(path, remedy) from None
    except tomllib.TOMLDecodeError as error:
        raise CannotRead(path, f"is not TOML ({error})", remedy) from None
    except ValueError as error:
        # A date that does not exist, or a number of 5,000 digits.
        raise CannotRead(path, f"has a value that cannot be read: {error}", remedy) from None
    _check_depth(values, path, remedy)
    return values


class _Duplicate(ValueError):
    """A key that an object has twice."""


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise _Duplicate(f"must not have key {quoted(key)} twice")
            seen.add(key)
    return values


def _too_deep(path: str, remedy: str) -> CannotRead:
    limit = f"must not nest objects and lists more than {MAX_DEPTH} levels deep"
    return CannotRead(path, limit, remedy)


def _check_depth(values: Any, path: str, remedy: str) -> None:
    """Raise `CannotRead` if `values` are too deep; without recursion, which would fail itself."""
    level = [values]
    for _ in range(MAX_DEPTH):
        items = (
            item
            for value in level
            if isinstance(value, dict | list)
            for item in (value.values() if isinstance(value, dict) else value)
        )
        level = [item for item in items if isinstance(item, dict | list)]
        if not level:
            return
    raise _too_deep(path, remedy)
