"""Containers of real engines: what arrives, what is written, and that none is left.

Engines that are not installed, or cannot run here, are skipped.
"""

from __future__ import annotations

import json
import os
import pathlib
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator

import pytest

from tests.conftest import PATIENCE, Project, clean_environment
from tests.engines.containers import ENGINES, Engine, started

#: A program that says that it runs, and does not end by itself.
WAIT = "trap '{trap}' TERM INT; touch {{root}}/started; while :; do sleep 0.1; done"


@pytest.fixture(scope="module", params=ENGINES)
def engine(request: pytest.FixtureRequest, processes: None) -> Iterator[Engine]:
    # A short path: it holds sockets.
    with tempfile.TemporaryDirectory(prefix="rvc", ignore_cleanup_errors=True) as folder:
        yield from started(request.param, pathlib.Path(folder))


class Case:
    """A project whose commands run in containers of an engine."""

    def __init__(self, project: Project, engine: Engine) -> None:
        self.project = project
        self.engine = engine
        self.folder = project.folder

    def write(self, commands: str, head: str = 'root = "out"\n', image: str = "") -> None:
        """Write a `pipeline.toml`; `CONTAINER` in it is the container."""
        image = image or self.engine.image
        container = f'container = {{ image = "{image}", engine = "{self.engine.name}"'
        self.project.write("pipeline.toml", head + commands.replace("CONTAINER", container))

    def run(self, *words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        return self.project.rvrun("run", "local", *words, code=code, **self.engine.variables)

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Start a run, and return when its program has started."""
        run = subprocess.Popen(
            ["rvrun", "run", "local", *words],
            cwd=self.folder,
            env=clean_environment(**self.engine.variables),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        try:
            wait_for((self.folder / "out" / "started").exists)
        except BaseException:
            run.kill()
            raise
        return run

    def process(self, words: str) -> int:
        """The process whose command line begins with some words."""
        done = subprocess.run(
            ["ps", "-ewwo", "pid=,args="], capture_output=True, text=True, check=True
        )
        rows = [line.split(None, 1) for line in done.stdout.splitlines()]
        folder = str(self.folder)
        return next(
            int(pid)
            for pid, args in (row for row in rows if len(row) == 2)
            if args.startswith(words) and folder in args
        )


@pytest.fixture
def case(project: Project, engine: Engine) -> Case:
    return Case(project, engine)


def wait_for(condition: Callable[[], bool], seconds: float = PATIENCE) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "nothing happened in time"
        time.sleep(0.05)


HOSTILE = ["a b", "$(touch pwned)`touch pwned`", "-x", "é\nz'q\"", "a,b=c:\\*"]


def toml(value: object) -> str:
    """A value of strings and lists as TOML, which reads them as JSON writes them."""
    return json.dumps(value)


HOSTILE_COMMANDS = r"""
[commands.script]
CONTAINER }
items = ITEMS
run = "printf '%s\\0' {item} >> {root}/items"
[commands.list]
CONTAINER }
items = ITEMS
run = ["sh", "-c", 'printf "%s\0" "$@" > out/list', "sh", "{items...}"]
[commands.file]
CONTAINER }
items = ITEMS
run = ["cp", "{items_file0}", "{root}/file"]
[commands.variables]
CONTAINER }
run = 'printf "%s\0" VARIABLES > {root}/variables'
[commands.variables.env]
"""


def test_values_arrive_as_they_are(case: Case) -> None:
    """Items, variables and the lines of an items file, for a script and for a list."""
    names = " ".join(f'"$V{i}"' for i in range(len(HOSTILE)))
    commands = HOSTILE_COMMANDS.replace("ITEMS", toml(HOSTILE)).replace("VARIABLES", names)
    variables = "\n".join(f"V{i} = {toml(value)}" for i, value in enumerate(HOSTILE))
    case.write(commands + variables + "\n")
    case.run()
    expected = "".join(f"{value}\0" for value in HOSTILE)
    for name in ("items", "list", "file", "variables"):
        assert case.project.read(f"out/{name}") == expected, name
    assert not (case.folder / "pwned").exists()
    assert case.engine.containers() == []


def test_files_belong_to_this_user(case: Case) -> None:
    """Also with an image of another user; its entry point does not run, its variables are there."""
    case.write(
        "[commands.show]\nCONTAINER }\nrun = ['sh', '-c', 'id -u; echo $OF_IMAGE; touch out/x']\n",
        image=case.engine.other,
    )
    case.run()
    status = (case.folder / "out/x").stat()
    assert (status.st_uid, status.st_gid) == (os.getuid(), os.getgid())
    of_image = "" if case.engine.name == "apptainer" else "1"
    assert (
        case.project.read("runs/pipeline/logs/pipeline/show.log") == f"{os.getuid()}\n{of_image}\n"
    )


def test_folders(case: Case) -> None:
    """Folders with names that options of engines separate at, and a root elsewhere, by a link."""
    (case.folder / "elsewhere").mkdir()
    inner = Project(case.folder / 'a b,c:d"e')
    (inner.folder / "sub").mkdir(parents=True)
    (inner.folder / "link").symlink_to("../elsewhere")
    (case.folder / "beside").mkdir()
    inner_case = Case(inner, case.engine)
    inner_case.write(
        '[commands.here]\nCONTAINER }\ncwd = "sub"\nrun = "pwd > ../{root}/here"\n'
        '[commands.beside]\nCONTAINER }\ncwd = "../beside"\nrun = "pwd > here"\n',
        head='root = "link/out"\n',
    )
    inner_case.run()
    assert case.project.read("elsewhere/out/here") == f"{inner.folder}/sub\n"
    assert case.project.read("beside/here") == f"{case.folder}/beside\n"
    inner_case.write(
        '[commands.here]\nCONTAINER }\nrun = "pwd > {root}/here"\n', head='root = "out"\n'
    )
    inner_case.run("-a", "root", str(case.folder / "absolute"), "--out", "runs/other")
    assert case.project.read("absolute/here") == f"{inner.folder}\n"


def test_problems_are_reported(case: Case) -> None:
    """Exit codes of programs, missing programs, images and directories."""
    case.write(
        "[commands.code]\nCONTAINER }\nrun = 'exit 7'\n"
        "[commands.killed]\nCONTAINER }\nrun = 'kill -9 $$'\n"
        "[commands.missing]\nCONTAINER }\nrun = ['no-such-program']\n"
        "[commands.cwd]\nCONTAINER }\ncwd = 'nowhere'\nrun = ['true']\n"
    )
    case.run("--keep-going", code=1)
    logs = {
        name: case.project.read(f"runs/pipeline/logs/pipeline/{name}.log")
        for name in ("code", "killed", "missing", "cwd")
    }
    assert logs["code"] == "rvrun: `sh -c 'exit 7'` ended with exit code 7\n"
    assert logs["killed"].endswith(("exit code 137\n", "was killed by SIGKILL\n"))
    assert "rvrun: `no-such-program` ended with exit code" in logs["missing"]
    assert logs["cwd"].endswith("cannot run: there is no directory nowhere; create it\n")
    assert not (case.folder / "nowhere").exists()
    assert case.engine.containers() == []


def test_a_missing_image(case: Case) -> None:
    image = "/nowhere/x.sif" if case.engine.name == "apptainer" else "Not/An:image:"
    case.write("[commands.show]\nCONTAINER }\nrun = ['echo', 'a b']\n", image=image)
    case.run(code=1)
    last = case.project.read("runs/pipeline/logs/pipeline/show.log").splitlines()[-1]
    how = f"could not start in its container; see the message of {case.engine.name} above"
    if case.engine.name == "apptainer":
        how = "ended with exit code 255"
    assert last == f"rvrun: `echo 'a b'` {how}"


@pytest.mark.parametrize(
    ("signum", "trap"),
    [(signal.SIGINT, "exit 3"), (signal.SIGTERM, "")],
    ids=["SIGINT", "SIGTERM ignored"],
)
def test_an_interrupted_run_leaves_no_container(case: Case, signum: int, trap: str) -> None:
    """Whether the program ends by itself or ignores the signal."""
    case.write(f'[commands.wait]\nCONTAINER }}\nrun = "{WAIT.format(trap=trap)}"\n')
    run = case.start()
    started = time.monotonic()
    if signum == signal.SIGINT:
        # As the terminal does.
        os.killpg(run.pid, signum)
    else:
        run.send_signal(signum)
    output, _ = run.communicate(timeout=PATIENCE)
    assert run.returncode in (128 + signum, -signum), output
    assert time.monotonic() - started < 60
    assert case.engine.containers() == []


def test_a_container_ends_at_its_time_limit(case: Case) -> None:
    case.write(f'[commands.wait]\nCONTAINER }}\ntimeout = 1\nrun = "{WAIT.format(trap="")}"\n')
    case.run(code=1)
    log = case.project.read("runs/pipeline/logs/pipeline/wait.log")
    assert log.endswith("did not end within 1 s\n")
    assert case.engine.containers() == []


def test_a_killed_client_leaves_no_container(case: Case) -> None:
    """The program does not go on without anybody who knows it."""
    if case.engine.name == "apptainer":
        pytest.skip("apptainer has no client: the program is its child")
    case.write(f'[commands.wait]\nCONTAINER }}\nrun = "{WAIT.format(trap="")}"\n')
    run = case.start()
    os.kill(case.process(f"{case.engine.name} run"), signal.SIGKILL)
    output, _ = run.communicate(timeout=PATIENCE)
    assert run.returncode == 1, output
    assert case.engine.containers() == []


def test_the_next_attempt_removes_what_a_killed_one_left(case: Case) -> None:
    """All processes of a run are killed; the container goes on until the target runs again."""
    if case.engine.name == "apptainer":
        pytest.skip("apptainer has no client: the program is its child")
    wait = WAIT.format(trap="")
    case.write(
        f'[commands.wait]\nCONTAINER }}\nrun = "test -e {{root}}/once || {{{{ {wait}; }}}}"\n'
    )
    run = case.start("--no-warm")
    left = case.engine.containers()
    assert len(left) == 1
    assert left[0].startswith("rvrun-pipeline-wait-")
    os.kill(run.pid, signal.SIGSTOP)
    os.killpg(run.pid, signal.SIGKILL)
    run.communicate(timeout=PATIENCE)
    case.project.write("out/once", "")
    case.run()
    assert case.engine.containers() == []
