"""The command lines of container engines."""

from __future__ import annotations

import os
import pathlib

import pytest

from rvrun.programs.container import wrap
from rvrun.programs.process import ProgramFailed


def test_apptainer(in_folder: pathlib.Path) -> None:
    table = {"image": "ghcr.io/osgeo/gdal", "engine": "apptainer", "options": ["--nv"]}
    assert wrap(table, ["gdalinfo", "a b"], {"X": "1"}, "sub", ["/tmp/items"]) == [
        *("apptainer", "exec", "--bind", str(in_folder), "--bind", "/tmp/items"),
        *("--pwd", str(in_folder / "sub"), "--nv", "docker://ghcr.io/osgeo/gdal"),
        *("gdalinfo", "a b"),
    ]
    for image in ("x.sif", "./x", "docker-archive://x"):
        assert image in wrap({**table, "image": image}, ["a"], {}, None)


def test_docker(in_folder: pathlib.Path) -> None:
    folder = str(in_folder)
    assert wrap({"image": "i", "engine": "docker"}, ["a"], {"X": "1"}, None) == [
        *("docker", "run", "--rm", "--init", f"--volume={folder}:{folder}"),
        *(f"--workdir={folder}", f"--user={os.getuid()}:{os.getgid()}", "--env=X", "i", "a"),
    ]


def test_the_first_engine_on_the_path(
    in_folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(in_folder))
    with pytest.raises(ProgramFailed, match="install one, or remove `container`"):
        wrap("i", ["a"], {}, None)
    (in_folder / "podman").touch(0o755)
    assert wrap("i", ["a"], {}, None)[0] == "podman"
