"""Run a program in a container on this machine, with docker, podman or apptainer.

The current directory has the same path in the container, so paths mean the same in both. In a job,
the image is the job's own, and nothing of this happens.
"""

from __future__ import annotations

import os

from rvrun.programs.process import NOT_FOUND, ProgramFailed, find_program

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

ENGINES = ("docker", "podman", "apptainer")
#: How the names of images begin that are files, and not in a registry.
_LOCAL_IMAGES = ("/", "./", "../")
_GPU = "CUDA_VISIBLE_DEVICES"


def wrap(
    container: str | Mapping[str, Any],
    argv: Sequence[str],
    variables: Mapping[str, str],
    directory: str | None,
    files: Sequence[str] = (),
) -> list[str]:
    """Return the command line that runs `argv` in a container.

    - `container`: an image, or a table with `image`, `engine` and `options`.
    - `variables`: environment variables of the program.
    - `directory`: where it runs. `files`: other files that it reads, by absolute path.

    Raises `ProgramFailed` if no engine is installed.
    """
    table = {"image": container} if isinstance(container, str) else container
    engine = table.get("engine") or find_engine()
    folder = os.getcwd()
    work = os.path.abspath(directory or folder)
    options = list(table.get("options", ()))
    if engine == "apptainer":
        mounts = [word for path in (folder, *files) for word in ("--bind", path)]
        # Apptainer passes the environment on.
        start = [engine, "exec", *mounts, "--pwd", work, *options]
        return [*start, _apptainer_image(table["image"]), *argv]
    mounts = [f"--volume={path}:{path}" for path in (folder, *files)]
    names = [*variables, *([_GPU] if _GPU in os.environ else [])]
    user = "--userns=keep-id" if engine == "podman" else f"--user={os.getuid()}:{os.getgid()}"
    start = [engine, "run", "--rm", "--init", *mounts, f"--workdir={work}", user]
    return [*start, *(f"--env={name}" for name in names), *options, table["image"], *argv]


def find_engine() -> str:
    """Return the first container engine on the PATH. Raises `ProgramFailed`."""
    for engine in ENGINES:
        if find_program(engine, os.environ.get("PATH")):
            return engine
    names = ", ".join(ENGINES)
    problem = f"cannot run: none of {names} is on the PATH; install one, or remove `container`"
    raise ProgramFailed("container", problem, NOT_FOUND)


def _apptainer_image(image: str) -> str:
    is_local = "://" in image or image.endswith(".sif") or image.startswith(_LOCAL_IMAGES)
    return image if is_local else f"docker://{image}"
