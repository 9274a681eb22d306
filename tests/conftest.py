"""What tests share: goldens, and small projects in folders of their own."""

from __future__ import annotations

import compileall
import os
import pathlib
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator

import attrs
import pytest
from hypothesis import HealthCheck, settings

from tests import fast
from tests.engines.moto import Moto
from tests.engines.slurm import Slurm, started

ROOT = pathlib.Path(__file__).parent.parent
GOLDENS = ROOT / "tests" / "goldens"
#: Seconds after which a command is taken to hang, on a machine however busy.
PATIENCE = 600

# The same examples each time, and no deadline: machines are shared.
settings.register_profile(
    "rvrun",
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("rvrun")

# Shells start jobs in the background with SIGINT and SIGQUIT ignored, and nohup ignores SIGHUP. All
# that tests start would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGQUIT, signal.SIG_DFL)
signal.signal(signal.SIGHUP, signal.SIG_DFL)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-goldens", action="store_true", help="Accept what is rendered.")


def pytest_configure(config: pytest.Config) -> None:
    """Compile what thousands of processes import, none of which may write bytecode."""
    config.pluginmanager.register(fast)
    if not hasattr(config, "workerinput"):
        for folder in ("rvrun", "templates", "tests/data"):
            compileall.compile_dir(ROOT / folder, quiet=2)


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """Compares a text with the golden file of that name; a missing golden fails."""

    def check(name: str, text: str) -> None:
        path = GOLDENS / name
        if request.config.getoption("--update-goldens"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        assert path.exists(), f"no golden {path}; accept it with pytest --update-goldens"
        assert text == path.read_text(encoding="utf-8"), "accept with pytest --update-goldens"

    return check


def clean_environment(**more: str) -> dict[str, str]:
    """The environment without what would change rvrun or make, rvrun's scripts first on PATH."""
    kept = {
        k: v for k, v in os.environ.items() if not k.startswith(("RVRUN", "MAKE", "MFLAGS", "AWS_"))
    }
    for name in ("CUDA_VISIBLE_DEVICES", "COLUMNS", "LINES"):
        kept.pop(name, None)
    scripts = os.path.dirname(sys.executable)
    return {
        **kept,
        "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}",
        "PYTHONDONTWRITEBYTECODE": "1",
        "XDG_CONFIG_HOME": "/nonexistent",
        "XDG_CACHE_HOME": "/nonexistent",
        **more,
    }


def unmeasured_environment(**more: str) -> dict[str, str]:
    """The clean environment, for processes whose coverage must not be measured.

    On a full disk, or at an interrupt, the measurement fails itself, with a traceback on stderr.
    """
    return {k: v for k, v in clean_environment(**more).items() if not k.startswith("COV")}


def without_markers(text: str) -> str:
    """A text without the `~~~^^^` lines of tracebacks, of which Python 3.13 draws more."""
    return re.sub(r"^[ |]*[~^]+\n", "", text, flags=re.MULTILINE)


@attrs.frozen
class Project:
    """A folder with a user's files, in which commands are typed."""

    folder: pathlib.Path

    def write(self, path: str, text: str) -> pathlib.Path:
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
        return file

    def read(self, path: str) -> str:
        return (self.folder / path).read_text(encoding="utf-8")

    def run(
        self, *command: str, code: int = 0, cwd: str = ".", **env: str
    ) -> subprocess.CompletedProcess[str]:
        """Run `command`, which must end with `code`."""
        done = subprocess.run(
            command,
            cwd=self.folder / cwd,
            env=clean_environment(**env),
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=PATIENCE,
            check=False,
        )
        assert done.returncode == code, (
            f"{command} -> {done.returncode}\n{done.stdout}{done.stderr}"
        )
        return done

    def rvrun(self, *words: str, code: int = 0, **env: str) -> subprocess.CompletedProcess[str]:
        return self.run("rvrun", *words, code=code, **env)

    def make(
        self, *words: str, code: int = 0, cwd: str = ".", **env: str
    ) -> subprocess.CompletedProcess[str]:
        return self.run("make", *words, code=code, cwd=cwd, **env)


@pytest.fixture
def project(tmp_path: pathlib.Path, processes: None) -> Project:
    """An empty project."""
    return Project(tmp_path)


@pytest.fixture
def tiny(project: Project) -> Project:
    """A project with `tiny.py`, the example without dependencies."""
    project.write("tiny.py", (ROOT / "examples" / "tiny.py").read_text(encoding="utf-8"))
    return project


@pytest.fixture
def in_folder(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """An empty folder as the current one, for what is called in this process."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("RVRUN")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "no-config"))
    monkeypatch.setattr(sys, "path", list(sys.path))
    return tmp_path


@pytest.fixture(scope="session")
def moto_server(processes: None) -> Iterator[Moto]:
    """The moto server of this process."""
    server = Moto()
    yield server
    server.close()


@pytest.fixture
def moto(moto_server: Moto) -> Moto:
    """The moto server, empty: `moto.variables` lead boto3 to it."""
    moto_server.reset()
    return moto_server


@pytest.fixture(scope="session")
def slurm_cluster(processes: None) -> Iterator[Slurm]:
    """The Slurm of this process, without accounting; it starts in about a second."""
    yield from started()


@pytest.fixture
def slurm(slurm_cluster: Slurm) -> Slurm:
    """The Slurm cluster without jobs, all nodes up; `slurm.variables` lead commands to it."""
    slurm_cluster.reset()
    return slurm_cluster
