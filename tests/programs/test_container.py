"""The command lines of container engines."""

from __future__ import annotations

import os
import pathlib
import re

import pytest

from rvrun.programs import engines
from rvrun.programs.container import Container
from rvrun.programs.process import Invocation, ProgramFailed

USER = os.getuid(), os.getgid()


@pytest.fixture
def folder(in_folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """An empty folder as the current one and as the PATH, on a machine without GPUs."""
    monkeypatch.setenv("PATH", str(in_folder))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return in_folder


def test_apptainer(folder: pathlib.Path) -> None:
    table = {"image": "ghcr.io/osgeo/gdal", "engine": "apptainer", "options": ["--nvccli"]}
    (folder / "sub").mkdir()
    container = Container(table, files=["/tmp/items"])
    call = container.wrap(["gdalinfo", "a b"], {"X": "1"}, "sub")
    assert call.argv == [
        *("apptainer", "exec", "--no-eval"),
        f"--mount=type=bind,source={folder},destination={folder}",
        "--mount=type=bind,source=/tmp/items,destination=/tmp/items",
        *("--pwd", f"{folder}/sub", "--nvccli", "docker://ghcr.io/osgeo/gdal", "gdalinfo", "a b"),
    ]
    assert call.environment == {**os.environ, "APPTAINERENV_X": "1"}
    assert call.leftover == ()
    assert str(call) == "gdalinfo 'a b'"
    for image in ("x.sif", "./x", "docker-archive://x"):
        call = Container({**table, "image": image}).wrap(["a"], {})
        assert image in call.argv
        assert call.environment is None


def test_docker(folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 0)
    container = Container({"image": "i", "engine": "docker"}, target="/run/p/scale.4/1")
    call = container.wrap(["a"], {"X": "1 2"})
    (name,) = [w for w in call.argv if w.startswith("--name=rvrun-scale.4-1-")]
    assert call.argv == [
        *("docker", "run", "--rm", "--init", name, "--entrypoint="),
        f"--mount=type=bind,source={folder},target={folder}",
        f"--workdir={folder}",
        *(f"--user=0:{USER[1]}", "--env=X=1 2", "i", "a"),
    ]
    # The variables of the program are not those of docker.
    assert call.environment is None
    assert call.leftover == ("docker", "rm", "--force", name.removeprefix("--name="))
    assert container.wrap(["b"], {}).leftover == call.leftover


def test_a_target_by_hand_has_a_container_of_its_own(folder: pathlib.Path) -> None:
    container = Container({"image": "i", "engine": "podman"})
    first, second = (container.wrap(["a"], {}).leftover[-1] for _ in range(2))
    assert first != second


@pytest.mark.parametrize(
    ("user", "expected"),
    [(0, ["--user=0:6"]), (5, ["--userns=keep-id", "--user=5:6"])],
)
def test_the_user_of_podman(
    monkeypatch: pytest.MonkeyPatch, user: int, expected: list[str]
) -> None:
    """`keep-id` is refused when root calls podman; without `--user` the image's user counts."""
    monkeypatch.setattr(os, "getuid", lambda: user)
    monkeypatch.setattr(os, "getgid", lambda: 6)
    assert engines.user_options("podman") == expected


@pytest.mark.parametrize(
    ("security", "expected"),
    [
        ("[name=seccomp,profile=default]", ["--user=5:6", "--group-add=7"]),
        # Of a daemon without root, the root of a container is the user.
        ("[name=seccomp,profile=default name=rootless name=cgroupns]", ["--user=0:0"]),
    ],
)
def test_the_user_of_docker(
    folder: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    processes: None,
    security: str,
    expected: list[str],
) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 5)
    monkeypatch.setattr(os, "getgid", lambda: 6)
    monkeypatch.setattr(os, "getgroups", lambda: [6, 7])
    script = folder / "docker"
    script.write_text(f"#!/bin/sh\necho '{security}'\n", encoding="utf-8")
    script.chmod(0o755)
    engines.is_rootless.cache_clear()
    assert engines.user_options("docker") == expected
    engines.is_rootless.cache_clear()


def test_a_docker_that_is_podman(folder: pathlib.Path) -> None:
    """As the package podman-docker installs it, and as a link."""
    (folder / "docker").write_text('#!/bin/sh\nexec /usr/bin/podman "$@"\n', encoding="utf-8")
    (folder / "docker").chmod(0o755)
    assert engines.kind_of("docker") == "podman"
    (folder / "docker").rename(folder / "podman")
    (folder / "docker").symlink_to("podman")
    (folder / "podman").write_bytes(b"\x7fELF")
    assert engines.kind_of("docker") == "podman"
    (folder / "docker").unlink()
    (folder / "docker").write_bytes(b"\x7fELF")
    (folder / "docker").chmod(0o755)
    assert engines.kind_of("docker") == "docker"


def gpu_words(call: Invocation) -> list[str]:
    return [w for w in call.argv if re.match("--(gpus|device|nv|rocm|env=CUDA)", w)]


DEVICE = "--env=CUDA_VISIBLE_DEVICES"


@pytest.mark.parametrize(
    ("engine", "expected"),
    [
        ("docker", [DEVICE, "--gpus=all"]),
        ("podman", [DEVICE, "--device=nvidia.com/gpu=all"]),
        ("apptainer", ["--nv"]),
    ],
)
def test_gpus(
    folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch, engine: str, expected: list[str]
) -> None:
    """A target that has a slot sees the GPUs, unless the user's options name a device."""
    monkeypatch.setattr(os, "getuid", lambda: 0)
    table = {"image": "i", "engine": engine}
    assert gpu_words(Container(table, gpu=True).wrap(["a"], {})) == []
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert gpu_words(Container(table, gpu=True).wrap(["a"], {})) == expected
    own = {**table, "options": ["--rocm"]}
    assert gpu_words(Container(own, gpu=True).wrap(["a"], {})) == [*expected[:-1], "--rocm"]
    assert gpu_words(Container(table).wrap(["a"], {})) == expected[:-1]


def test_mounts(folder: pathlib.Path) -> None:
    """What is outside of the current directory is mounted, once, by each of its names."""
    (folder / "link").symlink_to("/usr")
    (folder / "in").mkdir()
    folders = ["in", str(folder / "in"), "link", "/usr/bin", "../out,side"]
    container = Container({"image": "i", "engine": "podman"}, folders=folders)
    call = container.wrap(["a"], {}, "/in/the/image")
    beside = f"{folder.parent}/out,side"
    assert [w for w in call.argv if w.startswith("--mount=")] == [
        f"--mount=type=bind,source={folder},target={folder}",
        "--mount=type=bind,source=/usr,target=/usr",
        f'--mount=type=bind,"source={beside}","target={beside}"',
    ]


def test_a_missing_directory(folder: pathlib.Path) -> None:
    """Engines would create it; an absolute one may be in the image."""
    with pytest.raises(ProgramFailed) as caught:
        Container({"image": "i", "engine": "podman"}).wrap(["a", "b c"], {}, "nowhere")
    expected = "`a 'b c'` cannot run: there is no directory nowhere; create it"
    assert str(caught.value) == expected


def test_the_first_engine_on_the_path(folder: pathlib.Path) -> None:
    with pytest.raises(ProgramFailed, match="install one, or remove `container`"):
        Container("i").wrap(["a"], {})
    (folder / "podman").touch(0o755)
    assert Container("i").wrap(["a"], {}).argv[0] == "podman"
