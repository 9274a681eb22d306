from __future__ import annotations

import pathlib

import pytest

from rvrun.pipelines.import_statements import Import, find_imports

SOURCE = """
import top, top.sub as alias
from typing import TYPE_CHECKING
import typing as t
if TYPE_CHECKING:
    import for_types
else:
    import for_others
if t.TYPE_CHECKING:
    import for_types
if __name__ == "__main__":
    import for_script
try:
    import tried
except ImportError as error:
    import instead
class Class:
    import in_class
    async def method(self):
        import in_method
        from . import sibling
        from .. import above
        from .inner import one, two
        from ...beyond import nothing
        from absolute.name import *
        if TYPE_CHECKING:
            import for_types
        match self:
            case 1:
                import in_match
        with self as x:
            for y in x:
                while y:
                    import in_loop
def outer():
    def inner():
        import in_inner
    import top
"""
LAZY: list[Import] = [
    ("in_method", ()),
    ("pkg.mod", ("sibling",)),
    ("pkg", ("above",)),
    ("pkg.mod.inner", ("one", "two")),
    ("absolute.name", ()),
    ("in_match", ()),
    ("in_loop", ()),
    ("in_inner", ()),
    ("top", ()),
]


def write(folder: pathlib.Path, content: bytes) -> str:
    path = folder / "source.py"
    path.write_bytes(content)
    return str(path)


def test_imports_in_functions(tmp_path: pathlib.Path) -> None:
    """In any block, with relative imports resolved, in order, each once."""
    path = write(tmp_path, SOURCE.encode())
    assert find_imports(path, "pkg.mod", only_in_functions=True) == LAZY


def test_all_imports(tmp_path: pathlib.Path) -> None:
    """Those at the top are before those in functions below; conditions count as true."""
    statements = find_imports(write(tmp_path, SOURCE.encode()), "pkg.mod", only_in_functions=False)
    first = ["top", "top.sub", "typing", "typing", "for_others", "tried", "instead", "in_class"]
    assert [name for name, _ in statements[: len(first)]] == first
    # `top` is in both.
    assert statements[len(first) :] == LAZY[:-1]


def test_relative_imports_outside_of_a_package(tmp_path: pathlib.Path) -> None:
    """They fail when they run, so there is nothing to import."""
    path = write(tmp_path, b"from . import a\nfrom .b import c\n")
    assert find_imports(path, "", only_in_functions=False) == []


@pytest.mark.parametrize(
    "content", [b"def f(:", b"\0", b"\xff", b"x = " + 100_000 * b"-" + b"1", None]
)
def test_files_that_cannot_be_parsed(tmp_path: pathlib.Path, content: bytes | None) -> None:
    path = write(tmp_path, content) if content is not None else str(tmp_path / "gone.py")
    assert find_imports(path, "", only_in_functions=False) == []


def test_encodings_and_depth(tmp_path: pathlib.Path) -> None:
    """A file is read as Python reads it, however deep its blocks and expressions are."""
    path = write(tmp_path, "# coding: latin-1\nimport \xe9t\xe9\n".encode("latin-1"))
    assert find_imports(path, "", only_in_functions=False) == [("\xe9t\xe9", ())]
    chain = b"if 1: import a\n" + b"".join(b"elif %d: import b\n" % n for n in range(700))
    path = write(tmp_path, chain)
    assert find_imports(path, "", only_in_functions=False) == [("a", ()), ("b", ())]
