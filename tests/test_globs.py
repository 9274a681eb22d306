"""Globs find what Python's find, but each folder once below itself."""

from __future__ import annotations

import glob
import pathlib

import pytest

from rvrun.globs import expand


@pytest.fixture
def tree(in_folder: pathlib.Path) -> pathlib.Path:
    for name in ("a/x.tif", "a/[b]/y.tif", "a/[b]/c/z.tif", "a/.hidden/x.tif", ".x.tif", "w.tif"):
        (in_folder / name).parent.mkdir(parents=True, exist_ok=True)
        (in_folder / name).touch()
    (in_folder / "link").symlink_to("a/[b]")
    (in_folder / "a/gone.tif").symlink_to("nowhere")
    return in_folder


@pytest.mark.parametrize(
    "pattern",
    [
        *("**", "**/", "a/**", "a/**/", "**/*.tif", "a/**/*.tif", "./a/**/*.tif", "*/**/*.tif"),
        *(
            "**/**/x.tif",
            "a/**/c/**",
            "**/[[]b]/*",
            "*.tif",
            "a/*",
            "w.tif/**/x",
            "a/gone*",
        ),
    ],
)
def test_like_pythons(tree: pathlib.Path, pattern: str) -> None:
    for text in (pattern, f"{tree}/{pattern}"):
        assert set(expand(text)) == set(glob.glob(text, recursive=True))


def test_nothing(tree: pathlib.Path) -> None:
    """Unlike Python's, which finds `no/`."""
    assert set(expand("no/**")) == set(expand("no/**/x")) == set()


def test_links_in_a_circle(tree: pathlib.Path) -> None:
    before = set(expand("**/*.tif"))
    for number in range(3):
        (tree / f"a/up{number}").symlink_to("..")
        (tree / f"a/[b]/self{number}").symlink_to(".")
    paths = set(expand("**/*.tif"))
    assert before <= paths
    assert len(paths) < 200
    assert set(expand("a/[[]b]/**/*.tif")) == {"a/[b]/y.tif", "a/[b]/c/z.tif"}
