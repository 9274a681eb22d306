"""What docker, podman and apptainer are called with: users, mounts, images and GPUs."""

from __future__ import annotations

import contextlib
import functools
import os

from rvrun.programs.process import NOT_FOUND, ProgramFailed, find_program

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from subprocess import CompletedProcess

DOCKER, PODMAN, APPTAINER = ENGINES = ("docker", "podman", "apptainer")
#: How the names of images begin that are files, and not in a registry.
_LOCAL_IMAGES = ("/", "./", "../")
#: What makes the GPUs visible in a container; podman knows them by the Container Device Interface.
_GPU = {DOCKER: "--gpus=all", PODMAN: "--device=nvidia.com/gpu=all", APPTAINER: "--nv"}
#: How options begin with which users choose GPUs themselves.
_USERS_GPU = ("--gpus", "--device", "--runtime", "--nv", "--rocm")
#: How many bytes of a program tell whether it is a script that calls podman.
_HEAD = 4096
#: How long docker may take to describe itself, in seconds.
_PATIENCE = 30.0


def find_engine() -> str:
    """Return the first container engine on the PATH. Raises `ProgramFailed`."""
    if engine := first_installed(ENGINES):
        return engine
    names = ", ".join(ENGINES)
    problem = f"cannot run: none of {names} is on the PATH; install one, or remove `container`"
    raise ProgramFailed("container", problem, NOT_FOUND)


def first_installed(engines: Sequence[str]) -> str | None:
    """Return the first of `engines` that is on the PATH; None if none is."""
    path = os.environ.get("PATH")
    return next((engine for engine in engines if find_program(engine, path)), None)


def kind_of(engine: str) -> str:
    """Return which engine it really is: `docker` may be podman (package podman-docker)."""
    program = find_program(engine, os.environ.get("PATH")) if engine == DOCKER else None
    if program is None:
        return engine
    with open(program, "rb") as file:
        head = file.read(_HEAD)
    is_script = head.startswith(b"#!") and b"podman" in head
    is_link = os.path.basename(os.path.realpath(program)) == PODMAN
    return PODMAN if is_script or is_link else engine


def user_options(kind: str) -> list[str]:
    """Return the options with which a program has the rights of this user, and no others.

    Without them it would be the user of the image, who may not write here, or root, who would own
    all that it writes.
    """
    user, group = os.getuid(), os.getgid()
    if kind == PODMAN:
        keep = ["--userns=keep-id"] if user else []
        return [*keep, f"--user={user}:{group}"]
    if user and is_rootless():
        # The root of the container is this user.
        return ["--user=0:0"]
    groups = [f"--group-add={number}" for number in os.getgroups() if user and number != group]
    return [f"--user={user}:{group}", *groups]


@functools.cache
def is_rootless() -> bool:
    """Return whether the daemon of docker runs as a user, by what it says itself."""
    done = _ask_docker("info", "--format={{.SecurityOptions}}")
    return done is not None and "name=rootless" in done.stdout


@functools.cache
def daemon_problem() -> str | None:
    """Return why docker cannot run containers, in its own words; None if it can."""
    done = _ask_docker("version")
    if done is None:
        return f"no answer within {_PATIENCE:g} s"
    lines = done.stderr.strip().splitlines()
    return None if done.returncode == 0 else " ".join(lines[-1:]) or f"exit code {done.returncode}"


def _ask_docker(*words: str) -> CompletedProcess[str] | None:
    """Call docker, and return how it ended; None if it did not."""
    import subprocess

    call = [DOCKER, *words]
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        return subprocess.run(
            call,
            capture_output=True,
            check=False,
            encoding="utf-8",
            errors="replace",
            stdin=subprocess.DEVNULL,
            timeout=_PATIENCE,
        )
    return None


def mount_option(target: str, path: str) -> str:
    """Return the value of `--mount` for a path that is the same inside: a line of CSV.

    - `target`: what the engine calls the path inside.
    """
    fields = ("type=bind", f"source={path}", f"{target}={path}")
    return ",".join(_csv_field(field) for field in fields)


def _csv_field(text: str) -> str:
    is_plain = not any(sign in text for sign in ',"\r\n')
    return text if is_plain else '"{}"'.format(text.replace('"', '""'))


def image_uri(image: str) -> str:
    """Return an image as apptainer names it: one that is not a file is in a registry of Docker."""
    is_local = "://" in image or image.endswith(".sif") or image.startswith(_LOCAL_IMAGES)
    return image if is_local else f"docker://{image}"


def gpu_options(kind: str, options: Sequence[str]) -> list[str]:
    """Return the options that make GPUs visible, unless the user's own `options` do."""
    is_chosen = any(option.startswith(_USERS_GPU) for option in options)
    return [] if is_chosen else [_GPU[kind]]
