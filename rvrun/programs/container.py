"""Run a program in a container on this machine, with docker, podman or apptainer.

The current directory and the root have the same paths in the container, so paths mean the same in
both. In a job, the image is the job's own, and nothing of this happens.

Containers of docker and podman are not descendants of the process that asks for them. So each has
a name, by which it is removed if it does not end as it should, and before another attempt.
"""

from __future__ import annotations

import os

from rvrun.patterns import is_inside
from rvrun.programs.engines import (
    APPTAINER,
    PODMAN,
    find_engine,
    gpu_options,
    image_uri,
    kind_of,
    mount_option,
    user_options,
)
from rvrun.programs.process import Invocation, check_directory, join

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

_DEVICE = "CUDA_VISIBLE_DEVICES"


class Container:
    """The container of one call of a program.

    - `declaration`: an image, or a table with `image`, `engine` and `options`.
    - `target`: what identifies the target; two containers of a target never run together. Empty for
      one that is run by hand.
    - `folders`: directories that have the same paths inside, like the current one.
    - `files`: other files that the program reads, by absolute path.
    - `gpu`: whether the program uses a GPU.
    """

    def __init__(
        self,
        declaration: str | Mapping[str, Any],
        *,
        target: str = "",
        folders: Sequence[str] = (),
        files: Sequence[str] = (),
        gpu: bool = False,
    ) -> None:
        table = {"image": declaration} if isinstance(declaration, str) else declaration
        self.image: str = table["image"]
        self.options: list[str] = list(table.get("options", ()))
        self.engine: str | None = table.get("engine")
        self.target = target
        self.folders = folders
        self.files = files
        self.gpu = gpu

    def wrap(
        self,
        argv: Sequence[str],
        variables: Mapping[str, str],
        directory: str | None = None,
        **others: Any,
    ) -> Invocation:
        """Return the call of the engine that runs `argv` in this container.

        - `variables`: environment variables of the program.
        - `directory`: where it runs. `others`: more arguments of `Invocation`.

        Raises `ProgramFailed` if no engine is installed, or there is no such directory.
        """
        others["shown"] = others.get("shown") or join(argv)
        if directory is not None and not os.path.isabs(directory):
            # Engines create it, as root. An absolute one may be in the image.
            check_directory(directory, others["shown"])
        engine = self.engine or find_engine()
        if engine == APPTAINER:
            # Not as they are, because those of the image come before these.
            inside = {f"APPTAINERENV_{name}": text for name, text in variables.items()}
            environment = {**os.environ, **inside} if inside else None
            call = self._apptainer(argv, directory, has_variables=bool(inside))
            return Invocation(call, environment=environment, **others)
        name = container_name(self.target)
        call = self._run(engine, name, variables, directory)
        return Invocation([*call, *argv], leftover=[engine, "rm", "--force", name], **others)

    def _apptainer(
        self, argv: Sequence[str], directory: str | None, *, has_variables: bool
    ) -> list[str]:
        return [
            *(APPTAINER, "exec"),
            # Without, a shell evaluates the values of variables.
            *(["--no-eval"] if has_variables else []),
            *(f"--mount={mount_option('destination', path)}" for path in self._mounts(directory)),
            *("--pwd", os.path.abspath(directory or "")),
            *self._gpu_options(APPTAINER),
            *self.options,
            image_uri(self.image),
            *argv,
        ]

    def _run(
        self, engine: str, name: str, variables: Mapping[str, str], directory: str | None
    ) -> list[str]:
        """Return the command line of docker or podman, up to the image."""
        kind = kind_of(engine)
        return [
            *(engine, "run", "--rm", "--init", f"--name={name}"),
            # A removal kills it immediately; docker's always does.
            *(["--stop-timeout=0"] if kind == PODMAN else []),
            # The program is all of `run`, as it is with apptainer.
            "--entrypoint=",
            *(f"--mount={mount_option('target', path)}" for path in self._mounts(directory)),
            f"--workdir={os.path.abspath(directory or '')}",
            *user_options(kind),
            *(f"--env={key}={text}" for key, text in variables.items()),
            *([f"--env={_DEVICE}"] if _DEVICE in os.environ else []),
            *self._gpu_options(kind),
            *self.options,
            self.image,
        ]

    def _gpu_options(self, kind: str) -> list[str]:
        # Without a device, this machine has no GPU.
        return gpu_options(kind, self.options) if self.gpu and os.environ.get(_DEVICE) else []

    def _mounts(self, directory: str | None) -> list[str]:
        """Return the paths to mount: the current directory, and what is not below it."""
        mounts = [os.getcwd()]
        folders = [*self.folders]
        if directory is not None and not os.path.isabs(directory):
            folders.append(directory)
        # A folder may also be reached by a link in another one.
        paths = [name(path) for path in folders for name in (os.path.abspath, os.path.realpath)]
        for path in (*paths, *self.files):
            if not any(is_inside(mounted, path) for mounted in mounts):
                mounts.append(path)
        return mounts


def container_name(target: str) -> str:
    """Return the name of the container of a target, which is the same in each attempt.

    - `target`: the path of its run directory, and its own path in there; empty for a name that is
      unique.
    """
    import hashlib

    if not target:
        return f"rvrun-{os.getpid()}-{os.urandom(6).hex()}"
    digest = hashlib.sha256(os.fsencode(target)).hexdigest()[:12]
    readable = "-".join(target.split("/")[-2:])
    return f"rvrun-{readable}-{digest}"
