"""Real container engines, each with storage of its own, and an image of busybox made here.

Nothing of this machine's containers and images is read or changed, and no registry is asked. They
run as root; docker has a daemon of its own.
"""

from __future__ import annotations

import io
import os
import pathlib
import shutil
import subprocess
import tarfile
import time
from collections.abc import Iterator

import pytest

ENGINES = ("docker", "podman", "apptainer")
#: The image, and one that has what images may have: an entry point, a user, variables.
IMAGE, OTHER_IMAGE = "localhost/rvrun-test:1", "localhost/rvrun-test:2"
CHANGES = ('ENTRYPOINT ["/bin/echo","ENTRY"]', "USER 7:7", "ENV OF_IMAGE=1")
BUSYBOX = "/bin/busybox"
PROGRAMS = {
    "docker": ("docker", "dockerd", BUSYBOX),
    "podman": ("podman", "runc", "conmon", BUSYBOX),
    "apptainer": ("apptainer", BUSYBOX),
}
#: Without systemd, and without networks of containers.
DOCKERD = ("--iptables=false", "--ip6tables=false", "--bridge=none")
PODMAN = """
[containers]
netns = "host"
default_ulimits = []
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "runc"
"""
STORAGE = """
[storage]
driver = "{driver}"
graphroot = "{folder}/storage"
runroot = "{folder}/run"
"""
#: How long an engine may take to start, and its client to answer, on a machine however busy.
PATIENCE = 120.0


class Engine:
    """A container engine; `variables` lead its client to it.

    - `image`, `other`: the names of the images `IMAGE` and `OTHER_IMAGE`.
    """

    def __init__(self, name: str, folder: pathlib.Path) -> None:
        self.name = name
        self.folder = folder
        self.variables: dict[str, str] = {}
        self.image, self.other = IMAGE, OTHER_IMAGE
        self.daemon: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and make its images. Skips the test if it does not run on this machine."""
        root = self.folder / "root.tar"
        write_root(root)
        if self.name == "docker":
            self._start_docker()
        elif self.name == "podman":
            self._configure_podman()
        else:
            self._unpack(root)
            return
        self._import(root, IMAGE)
        self._import(root, OTHER_IMAGE, *CHANGES)
        self.check("run", "--rm", "--init", IMAGE, "true")

    def _start_docker(self) -> None:
        socket = f"unix://{self.folder}/docker.sock"
        self.variables["DOCKER_HOST"] = socket
        folders = ("--data-root", "data", "--exec-root", "exec", "--pidfile", "pid")
        with (self.folder / "log").open("wb") as log:
            self.daemon = subprocess.Popen(
                ["dockerd", "--host", socket, *DOCKERD]
                + [str(self.folder / w) if i % 2 else w for i, w in enumerate(folders)],
                cwd=self.folder,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + PATIENCE
        while self.run("version", check=False).returncode:
            if self.daemon.poll() is not None or time.monotonic() > deadline:
                text = (self.folder / "log").read_text(encoding="utf-8", errors="replace")
                pytest.skip(f"dockerd does not start here: {text[-300:]}")
            time.sleep(0.1)

    def _configure_podman(self) -> None:
        for name, text in (("containers.conf", PODMAN), ("storage.conf", self._storage())):
            (self.folder / name).write_text(text, encoding="utf-8")
        self.variables["PODMAN_IGNORE_CGROUPSV1_WARNING"] = "1"
        self.variables["CONTAINERS_CONF"] = str(self.folder / "containers.conf")
        self.variables["CONTAINERS_STORAGE_CONF"] = str(self.folder / "storage.conf")

    def _storage(self) -> str:
        return STORAGE.format(driver="overlay", folder=self.folder)

    def _import(self, root: pathlib.Path, image: str, *changes: str) -> None:
        options = [word for change in changes for word in ("--change", change)]
        self.check("import", *options, str(root), image)

    def _unpack(self, root: pathlib.Path) -> None:
        folder = self.folder / "image"
        with tarfile.open(root) as archive:
            archive.extractall(folder, filter="fully_trusted")
        self.image = self.other = str(folder)
        self.check("exec", self.image, "true")

    def check(self, *words: str) -> None:
        """Call the client, and skip the test if it cannot do on this machine what it should."""
        done = self.run(*words, check=False)
        if done.returncode:
            pytest.skip(f"{self.name} cannot run containers here: {done.stderr[-300:]}")

    def run(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Call the client."""
        return subprocess.run(
            [self.name, *words],
            env={**os.environ, **self.variables},
            capture_output=True,
            text=True,
            check=check,
            timeout=PATIENCE,
        )

    def containers(self) -> list[str]:
        """The names of all containers, running or not."""
        if self.name == "apptainer":
            return []
        return self.run("ps", "--all", "--format", "{{.Names}}").stdout.split()

    def stop(self) -> None:
        """Remove all containers, and end the daemon."""
        done = self.run("ps", "--all", "--quiet", check=False)
        if self.name != "apptainer" and done.returncode == 0:
            for container in done.stdout.split():
                self.run("rm", "--force", container, check=False)
        if self.daemon is not None:
            self.daemon.terminate()
            self.daemon.wait(PATIENCE)


def write_root(path: pathlib.Path) -> None:
    """Write the root file system of an image: busybox alone."""
    done = subprocess.run([BUSYBOX, "--list"], capture_output=True, text=True, check=True)
    with tarfile.open(path, "w") as archive:
        for folder in ("bin", "dev", "etc", "proc", "root", "sys", "tmp", "var/tmp"):
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o1777 if "tmp" in folder else 0o755
            archive.addfile(entry)
        for name in ("etc/passwd", "etc/group"):
            archive.addfile(tarfile.TarInfo(name), io.BytesIO())
        archive.add(BUSYBOX, "bin/busybox")
        for applet in done.stdout.split():
            if applet != "busybox":
                entry = tarfile.TarInfo(f"bin/{applet}")
                entry.type, entry.linkname = tarfile.SYMTYPE, BUSYBOX
                archive.addfile(entry)


def started(name: str, folder: pathlib.Path) -> Iterator[Engine]:
    """An engine that stops with the fixture of a test; skips where it cannot run."""
    missing = [p for p in PROGRAMS[name] if shutil.which(p, path=_path()) is None]
    if missing:
        pytest.skip(f"a real {name} needs {', '.join(missing)}")
    if os.getuid() != 0 and name == "docker":
        pytest.skip("a docker of its own needs root")
    engine = Engine(name, folder)
    try:
        engine.start()
        yield engine
    finally:
        engine.stop()


def _path() -> str:
    return f"{os.environ['PATH']}:/usr/sbin:/sbin"
