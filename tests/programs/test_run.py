"""Pipelines of programs as they run: exit codes, interrupts, what is stale, matrix, containers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from tests.conftest import PATIENCE, Project, clean_environment
from tests.engines.batch import BatchEngine
from tests.engines.moto import Moto

TILES = """
name = "tiles"
root = "out"
[config]
scale = 2
title = "Tiles"
[commands.scale]
items = ["a", "b", "c"]
splits = 2
run = "echo {config.scale} > {root}/{item}.txt"
[commands.join]
needs = ["scale"]
run = "cat {root}/?.txt > {root}/all"
[commands.label]
run = ["sh", "-c", 'echo "$1" > "$2"', "sh", "{config.title}", "{root}/label"]
"""


@pytest.fixture
def tiles(project: Project) -> Project:
    project.write("pipeline.toml", TILES)
    return project


def stale(project: Project, *words: str) -> list[str]:
    """The stages that would run."""
    plan = json.loads(project.rvrun("plan", "--json", *words).stdout)
    names = [f"{p['name']}/{s['command']}" for p in plan["pipelines"] for s in p["stages"]]
    lines = project.rvrun("plan", *words).stdout.splitlines()
    return [name for name in names if any(name in x and "up to date" not in x for x in lines[2:-1])]


def test_a_command_depends_on_what_it_mentions(tiles: Project) -> None:
    tiles.rvrun("run", "local")
    assert tiles.read("out/all") == "2\n2\n2\n"
    assert stale(tiles) == []
    assert stale(tiles, "-a", "title", "x") == ["tiles/label"]
    assert stale(tiles, "-a", "scale", "3") == ["tiles/scale", "tiles/join"]


def test_its_own_declaration_is_its_code(tiles: Project) -> None:
    """Another `run` makes exactly that command stale; how it is planned changes nothing."""
    tiles.rvrun("run", "local")
    tiles.write("pipeline.toml", TILES.replace("cat {root}", "cat -u {root}"))
    assert stale(tiles) == ["tiles/join"]
    assert "commands.join.run" in tiles.rvrun("plan").stdout
    tiles.write("pipeline.toml", TILES + "timeout = 60\nretries = 1\n")
    assert stale(tiles) == []


def test_make_agrees(tiles: Project) -> None:
    tiles.rvrun("run", "local")
    assert tiles.make("-q", "-C", "runs/pipeline").stdout == ""
    tiles.rvrun("plan", "-a", "title", "x", "--out", "runs/pipeline")
    done = tiles.make("-n", "-C", "runs/pipeline")
    assert done.stdout.count("run_command") == 1
    assert "label" in done.stdout


def test_the_exit_code_is_the_programs(project: Project) -> None:
    project.write("pipeline.toml", '[commands.fail]\nrun = "exit 7"\n')
    done = project.rvrun("run", "local", code=1)
    assert "pipeline/fail failed (exit 7)" in done.stderr
    assert "| rvrun: `sh -c 'exit 7'` ended with exit code 7\n" in done.stderr
    assert "Traceback" not in done.stderr
    project.rvrun("run_command", "runs/pipeline/config/pipeline.json", "fail", code=7)


def test_a_script_stops_at_the_first_failure(project: Project) -> None:
    project.write("pipeline.toml", "[commands.fail]\nrun = '''\nfalse\necho reached\n'''\n")
    assert "reached" not in project.rvrun("run", "local", code=1).stderr


def test_a_missing_program(project: Project) -> None:
    project.write("pipeline.toml", '[commands.fail]\nrun = ["no-such-program", "x"]\n')
    done = project.rvrun("run", "local", code=1)
    problem = "cannot run: `no-such-program` is not on the PATH; install it, or correct its name"
    assert f"rvrun: `no-such-program x` {problem}" in done.stderr
    done = project.rvrun("check", code=2)
    assert "pipeline/fail runs `no-such-program`, which is not on the PATH" in done.stdout


@pytest.mark.parametrize("path", ["out", "out/deep"])
def test_a_folder_that_cannot_be_made(project: Project, path: str) -> None:
    """One sentence in a run and by hand, and `check` says so before."""
    project.write("out", "a file")
    project.write(
        "pipeline.toml",
        f'root = "{path}"\n[commands.a]\nrun = ["true"]\n'
        '[commands.b]\nitems = [1]\nrun = ["echo", "{item}"]\n',
    )
    done = project.rvrun("run", "local", "-k", code=1)
    problem = "File exists" if path == "out" else "Not a directory"
    message = f"rvrun: folder {path} cannot be created: {problem}; change `root` or `outputs`\n"
    for log in ("a.log", "b.1/0.log"):
        assert project.read(f"runs/pipeline/logs/pipeline/{log}") == message
    assert "Traceback" not in done.stderr
    done = project.rvrun("run_command", "runs/pipeline/config/pipeline.json", "a", code=1)
    assert done.stderr == message
    assert "fix: change `root` in pipeline.toml" in project.rvrun("check", code=2).stdout


def test_programs_that_check_finds(project: Project) -> None:
    """Those of lists, and the first one of a script; what a command may still make is left out."""
    project.write("tools/run.sh", "#!/bin/sh\n")
    (project.folder / "tools/run.sh").chmod(0o755)
    project.write(
        "pipeline.toml",
        'root = "out"\n[config]\nx = "no-such-0"\n'
        '[commands.a]\nrun = ["{config.x}"]\ncwd = "{root}"\n'
        '[commands.b]\nrun = "no-such-1 {root} | cat"\n'
        '[commands.c]\nrun = ["tools/run.sh"]\ncwd = "tools"\n'
        '[commands.d]\nrun = "if true; then no-such; fi"\n'
        '[commands.e]\nrun = "X=1 no-such"\n'
        '[commands.f]\nrun = ["./run.sh"]\ncwd = "tools"\n'
        '[commands.g]\nrun = ["run.sh"]\nenv = { PATH = "tools" }\n'
        '[commands.h]\nrun = ["{root}/made"]\n'
        '[commands.i]\nitems = ["x"]\nrun = ["{item}"]\n',
    )
    lines = project.rvrun("check", code=2).stdout.splitlines()
    assert [line.split(maxsplit=2)[2] for line in lines if "pipeline/" in line] == [
        "pipeline/a runs `no-such-0`, which is not on the PATH",
        "pipeline/b begins with `no-such-1`, which is not on the PATH",
        "pipeline/c runs `tools/run.sh`, which does not exist, or cannot be executed",
    ]


def test_timeout_and_retries(project: Project) -> None:
    project.write(
        "pipeline.toml",
        'root = "out"\n[commands.slow]\ntimeout = 0.2\nrun = "sleep 600; echo never"\n'
        "[commands.flaky]\nretries = 2\n"
        "run = 'echo >> {root}/attempts; test $(wc -l < {root}/attempts) = 3'\n",
    )
    started = time.monotonic()
    done = project.rvrun("run", "local", "-k", code=1)
    assert time.monotonic() - started < 300
    assert "pipeline/slow failed (exit 124)" in done.stderr
    assert "did not end within 0.2 s" in done.stderr
    assert project.read("out/attempts") == "\n\n\n"
    log = project.read("runs/pipeline/logs/pipeline/flaky.log")
    assert log.count("ended with exit code 1; attempt") == 2


def test_environment_and_directory(project: Project) -> None:
    project.write("tools/here", "")
    project.write(
        "pipeline.toml",
        'root = "out"\n[config]\nn = 3\n[env]\nA = "{config.n}"\nB = 1\n'
        '[commands.show]\ncwd = "tools"\nenv = { B = "two", C = "{name}" }\n'
        "run = 'ls here && echo \"$A $B $C\"'\n",
    )
    project.rvrun("run", "local")
    log = project.read("runs/pipeline/logs/pipeline/show.log")
    assert log == "here\n3 two pipeline\n"


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize(
    "run",
    ['["sleep", "98765"]', '"sleep 98765; true"', "\"trap 'exit 8' TERM; sleep 98765 & wait\""],
)
def test_a_program_ends_with_its_target(project: Project, run: str, signum: int) -> None:
    """It did not fail, whatever it does about the signal."""
    project.write("pipeline.toml", f"[commands.wait]\nsplits = 5\nrun = {run}\n")
    process = subprocess.Popen(
        ["rvrun", "run", "local", "-j5"],
        cwd=project.folder,
        env=clean_environment(),
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + PATIENCE
        while len(sleepers(process.pid)) < 5:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(signum)
        _, errors = process.communicate(timeout=PATIENCE)
        assert process.returncode in (128 + signum, -signum)
        assert b"0 targets ran, 5 stopped" in errors
        assert sleepers(process.pid) == []
    finally:
        for child in sleepers(process.pid):
            os.kill(child, signal.SIGKILL)


def sleepers(session: int) -> list[int]:
    """The processes of a session that sleep for these tests."""
    done = subprocess.run(
        ["ps", "-eo", "pid=,sess=,args="], capture_output=True, text=True, check=True
    )
    rows = [line.split(None, 2) for line in done.stdout.splitlines()]
    return [int(p) for p, s, args in rows if int(s) == session and args.startswith("sleep 98765")]


def test_a_target_by_hand_becomes_its_program(project: Project) -> None:
    """Without a run directory nothing follows, so the program has the target's process id."""
    project.write("pipeline.toml", '[commands.show]\nrun = ["sh", "-c", "echo $$; exit 3"]\n')
    project.rvrun("render", "local")
    with subprocess.Popen(
        ["rvrun", "run_command", "runs/pipeline/config/pipeline.json", "show"],
        cwd=project.folder,
        env=clean_environment(),
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert int(process.stdout.read()) == process.pid
    assert process.returncode == 3


def test_matrix(project: Project) -> None:
    project.write(
        "pipeline.toml",
        'name = "m"\n[config]\nz = "q"\n[matrix]\nx = [0.5, 1]\ny = ["a b", "c"]\n'
        '[commands.show]\nrun = "echo {config.x} {config.y} {config.z} > {root}/file"\n',
    )
    project.rvrun("run", "local")
    files = {p.parent.name: p.read_text() for p in project.folder.glob("out/*/file")}
    assert files == {
        "m-0.5-a-b": "0.5 a b q\n",
        "m-0.5-c": "0.5 c q\n",
        "m-1-a-b": "1 a b q\n",
        "m-1-c": "1 c q\n",
    }
    plan = json.loads(project.rvrun("plan", "--json", "-a", "y", "c", "-a", "x", "1").stdout)
    assert [pipeline["name"] for pipeline in plan["pipelines"]] == ["m-1-c"]


def test_include(project: Project) -> None:
    project.write("sub/common.toml", '[config]\na = 1\nb = 2\n[commands.first]\nrun = ["true"]\n')
    project.write(
        "pipeline.toml",
        'include = "sub/common.toml"\n[config]\nb = 3\n'
        '[commands.second]\nneeds = ["first"]\nrun = "echo {config.a} {config.b}"\n',
    )
    project.rvrun("run", "local")
    assert project.read("runs/pipeline/logs/pipeline/second.log") == "1 3\n"
    project.write("sub/common.toml", '[commands.second]\nrun = ["true"]\n')
    done = project.rvrun("plan", code=2)
    assert done.stderr == (
        "rvrun: pipeline.toml:4:1: command `second` is already in sub/common.toml:1:1; rename one "
        "of the two\n"
    )


def test_needs_follow_inputs_and_outputs(project: Project) -> None:
    project.write(
        "pipeline.toml",
        'root = "out"\n[commands.b]\ninputs = ["{root}/a"]\nrun = "cat {root}/a"\n'
        '[commands.a]\noutputs = ["{root}/a"]\nrun = "echo hello > {root}/a"\n'
        '[commands.c]\nrun = ["true"]\n',
    )
    plan = json.loads(project.rvrun("plan", "--json").stdout)
    needs = {s["command"]: s["needs"] for s in plan["pipelines"][0]["stages"]}
    assert needs == {"a": [], "b": [{"command": "a", "kind": "all"}], "c": []}
    project.rvrun("run", "local")


def test_arguments_have_the_type_of_the_value(project: Project) -> None:
    project.write(
        "pipeline.toml",
        '[config]\nn = 1\nx = 0.5\nb = true\ns = "s"\nl = [1]\nt = { deep = 1 }\n'
        '[commands.a]\nrun = ["true"]\n',
    )

    def config(*words: str) -> dict[str, object]:
        project.rvrun("plan", *words, "--out", "plans/x")
        values = json.loads(project.read("plans/x/config/pipeline.json"))
        return dict(values["config"]["config"])

    words = ("-a", "n", "2", "-a", "x", "3", "-a", "b", "no", "-a", "s", "4", "-a", "t.deep", "5")
    expected = {"n": 2, "x": 3.0, "b": False, "s": "4", "l": [2, 3], "t": {"deep": 5}}
    assert config(*words, "-a", "l", "[2, 3]") == expected
    done = project.rvrun("plan", "-a", "n", "two", code=2)
    assert done.stderr == "rvrun: -a n must be an integer, as 1 is, got 'two'\n"
    done = project.rvrun("plan", "-a", "m", "2", code=2)
    assert "unknown config key `m` in pipeline.toml" in done.stderr
    done = project.rvrun("plan", "-a", "l", "2", code=2)
    assert done.stderr == "rvrun: -a l must be a list in TOML, as [1] is, got '2'\n"


def test_items_from_files(project: Project) -> None:
    project.write("list.txt", "x\n\ny z\n")
    project.write("rows.csv", "id,path\n1,a b.tif\n2,c.tif\n")
    project.write("rows.json", '[{"id": 1, "path": "p"}, {"id": 2, "path": "q"}]')
    project.write("in/b.tif", "")
    project.write("in/a.tif", "")
    project.write(
        "pipeline.toml",
        '[config]\nfolder = "in"\n'
        '[commands.lines]\nitems = { lines = "list.txt" }\nrun = ["echo", "{item}"]\n'
        '[commands.csv]\nitems = { csv = "rows.csv" }\nrun = ["echo", "{item.id}", "{item.path}"]\n'
        '[commands.column]\nitems = { json = "rows.json", column = "path" }\nrun = "echo {item}"\n'
        '[commands.glob]\nitems = { glob = "{config.folder}/*.tif" }\n'
        'run = ["echo", "{item.stem}", "{item.name}", "{item.suffix}", "{item.parent}"]\n'
        '[commands.table]\nitems = { csv = "rows.csv" }\nrun = ["cat", "{items_file}"]\n',
    )
    project.rvrun("run", "local")

    def log(command: str) -> str:
        return project.read(f"runs/pipeline/logs/pipeline/{command}.1/0.log")

    assert log("lines") == "x\ny z\n"
    assert log("csv") == "1 a b.tif\n2 c.tif\n"
    assert log("column") == "p\nq\n"
    assert log("glob") == "a a.tif .tif in\nb b.tif .tif in\n"
    assert log("table") == '{"id": "1", "path": "a b.tif"}\n{"id": "2", "path": "c.tif"}\n'


def test_items_that_are_folders(project: Project) -> None:
    """A slash at the end of a folder is not a part of its name."""
    for name in ("a.x", "b"):
        (project.folder / "in" / name).mkdir(parents=True)
    project.write(
        "pipeline.toml",
        'root = "out"\n[commands.show]\nitems = { glob = "in/*/" }\n'
        'run = "echo {item} {item.stem} {item.suffix} {item.parent} > {root}/{item.name}"\n'
        'outputs = ["{root}/{item.name}"]\n',
    )
    project.rvrun("run", "local")
    assert project.read("out/a.x") == "in/a.x/ a .x in\n"
    assert project.read("out/b") == "in/b/ b  in\n"
    assert stale(project) == []


def test_a_program_that_needs_all_of_its_items_gets_all_of_them_again(project: Project) -> None:
    """What it writes has all items, also those that were there before."""

    def write(*items: str) -> None:
        project.write(
            "pipeline.toml",
            f'root = "out"\n[commands.parts]\nitems = {json.dumps(items)}\nsplits = 2\n'
            'run = "echo {items...} > {root}/part.{split}"\n'
            f'[commands.all]\nitems = {json.dumps(items)}\noutputs = ["{{root}}/all"]\n'
            'run = "cat {items_file} > {root}/all"\n'
            f'[commands.each]\nitems = {json.dumps(items)}\noutputs = ["{{root}}/*.txt"]\n'
            'run = "for x in {items...}; do echo $x > {root}/$x.txt; done"\n'
            f"[commands.next]\nitems = {json.dumps(items)}\nsplits = 2\n"
            'needs = [{ aligned = "parts" }]\nrun = "echo {item}"\n',
        )

    def parts() -> list[str]:
        return [project.read(f"out/part.{split}") for split in range(2)]

    write("b", "c", "d", "e", "f")
    project.rvrun("run", "local")
    assert stale(project) == []
    write("a", "b", "c", "d", "e", "f")
    assert "1 of 6 items   not done: a" in project.rvrun("plan", "pipeline.toml", "each").stdout
    assert stale(project, "pipeline.toml", "all") == ["pipeline/all"]
    project.rvrun("run", "local")
    assert parts() == ["a b c\n", "d e f\n"]
    assert project.read("out/all") == "a\nb\nc\nd\ne\nf\n"
    # Another number of splits is another program for those that mention it.
    assert stale(project, "pipeline.toml", "parts", "all", "each", "-s", "3") == ["pipeline/parts"]
    write("c", "d", "e", "f")
    project.rvrun("run", "local")
    assert parts() == ["c d\n", "e f\n"]
    assert project.read("out/all") == "c\nd\ne\nf\n"


ENGINE = """#!/bin/sh
# Like ENGINE run: understands the options that rvrun gives, and prints them.
echo "engine: $*" >&2
[ "$1" = run ] || exit 0
shift
while [ $# -gt 0 ]; do
  case $1 in
    --workdir=*) cd "${1#--workdir=}" ;;
    --env=*) export "${1#--env=}" ;;
    --*) ;;
    *) break ;;
  esac
  shift
done
image=$1
shift
IMAGE=$image exec "$@"
"""


@pytest.mark.parametrize("engine", ["docker", "podman"])
def test_container(project: Project, engine: str) -> None:
    """A stand-in for the engine follows its command line: options, the image, the program."""
    project.write(f"bin/{engine}", ENGINE).chmod(0o755)
    project.write(
        "pipeline.toml",
        f'root = "out"\n[commands.show]\ncontainer = {{ image = "i:1", engine = "{engine}" }}\n'
        'env = { X = "a b" }\nrun = ["sh", "-c", \'echo "$IMAGE $X $1" > "$2"\', "sh", "c d", '
        '"{root}/file"]\n',
    )
    path = f"{project.folder}/bin:{os.path.dirname(sys.executable)}:{os.environ['PATH']}"
    project.rvrun("run", "local", PATH=path)
    assert project.read("out/file") == "i:1 a b c d\n"
    log = project.read("runs/pipeline/logs/pipeline/show.log")
    assert "engine: run --rm --init --name=rvrun-pipeline-show-" in log
    assert f"--mount=type=bind,source={project.folder},target={project.folder} " in log
    assert "--env=X=a b i:1 sh -c" in log


def test_a_container_in_a_container(project: Project) -> None:
    """A job that is in one already, as on Slurm, starts no other."""
    project.write(
        "pipeline.toml",
        '[commands.show]\ncontainer = { image = "i", engine = "podman" }\nrun = "echo inside"\n',
    )
    project.rvrun("render", "local")
    words = ("run_command", "runs/pipeline/config/pipeline.json", "show")
    assert project.rvrun(*words, RVRUN_IN_CONTAINER="1").stdout == "inside\n"


def test_inprocess_and_warm_runs_agree(tiles: Project) -> None:
    tiles.rvrun("run", "inprocess")
    assert tiles.read("out/all") == "2\n2\n2\n"
    assert stale(tiles) == []
    tiles.rvrun("run", "local", "-B", "--no-warm")
    tiles.rvrun("run", "local", "-B", "--warm")
    assert stale(tiles) == []


@pytest.mark.parametrize("name", ["pipeline.toml", "pipeline.py"])
def test_init_runs_as_it_is(project: Project, name: str) -> None:
    option = ["--python"] if name.endswith(".py") else []
    done = project.rvrun("init", *option)
    first, *commands = done.stdout.splitlines()
    assert first == f"wrote {name}; next:"
    for command in commands:
        project.run(*command.split())
    assert len(commands) == 2
    assert "Hello, Ada!" in "".join(p.read_text() for p in project.folder.glob("out/all.*"))
    done = project.rvrun("init", *option, code=2)
    assert done.stderr == f"rvrun: {name} exists already; edit it, or remove it first\n"


@pytest.mark.parametrize(
    ("folder", "name"),
    [("all", "hello"), ("日本", "hello"), ("a b", "a-b"), ("x" * 240, "x" * 100)],
)
def test_init_in_any_folder(project: Project, folder: str, name: str) -> None:
    (project.folder / folder).mkdir()
    inside = Project(project.folder / folder)
    inside.rvrun("init")
    inside.rvrun("init", "--python")
    for config in ("pipeline.toml", "pipeline.py"):
        assert inside.rvrun("plan", config).stdout.splitlines()[2].startswith(f"{name}/greet")


def test_batch_runs_a_single_argv_directly(project: Project) -> None:
    project.write("rvrun.toml", '[batch]\ncpu_job_queue = "q"\ncpu_job_def = "d"\n')
    project.write(
        "pipeline.toml",
        'root = "s3://bucket/x"\n[config]\nn = 3\n'
        '[commands.argv]\nenv = { X = "a b" }\nrun = ["prog", "{config.n}", "{root}/y"]\n'
        '[commands.script]\nrun = "prog {config.n}"\n'
        '[commands.empty]\nrun = ["prog", ""]\n'
        '[commands.split]\nsplits = 2\nrun = ["prog", "{split}"]\n',
    )
    project.rvrun("render", "batch", "--out", "runs/aws")
    requests = [
        json.loads(p.read_text()) for p in sorted(project.folder.glob("runs/aws/batch/*-*.json"))
    ]
    commands = [request["containerOverrides"]["command"] for request in requests]
    assert commands[0] == ["env", "X=a b", "prog", "3", "s3://bucket/x/y"]
    assert [command[:2] for command in commands[1:]] == [["rvrun", "run_command"]] * 3


def test_diff_shows_keys(tiles: Project) -> None:
    tiles.rvrun("plan", "--out", "plans/x")
    done = tiles.rvrun("diff", "plans/x", "pipeline.toml", "-a", "scale", "3", code=1)
    assert "config.scale" in done.stdout
    tiles.write("pipeline.toml", TILES.replace('"c"]', '"c", "d"]'))
    done = tiles.rvrun("diff", "plans/x", "pipeline.toml", code=1)
    assert "items.scale" in done.stdout


def test_completion_knows_commands_and_values(tiles: Project) -> None:
    done = tiles.rvrun(
        _RVRUN_COMPLETE="complete_bash", COMP_WORDS="rvrun plan pipeline.toml ", COMP_CWORD="3"
    )
    assert done.stdout.split() == ["scale", "join", "label"]


FILES = """
root = "out"
[config]
table = "in.csv"
[commands.each]
items = ["in/a.txt", "in/b c.txt"]
splits = 2
run = "tr a-z A-Z < {item} > {root}/upper/{item.stem}.txt"
outputs = ["{root}/upper/{item.stem}.txt"]
[commands.join]
inputs = ["{root}/upper/*.txt", "{config.table}"]
run = "cat {root}/upper/*.txt {config.table} > {root}/all"
outputs = ["{root}/all"]
"""


def test_inputs_and_outputs(project: Project) -> None:
    """A changed input or a missing output makes exactly its command, or its item, stale."""
    project.write("in/a.txt", "a\n")
    project.write("in/b c.txt", "b\n")
    project.write("in.csv", "x\n")
    project.write("pipeline.toml", FILES)
    project.rvrun("run", "local")
    assert project.read("out/all") == "A\nB\nx\n"
    assert stale(project) == []
    project.write("in.csv", "y\n")
    assert stale(project) == ["pipeline/join"]
    assert "input changed: in.csv" in project.rvrun("plan").stdout
    project.rvrun("run", "local")
    (project.folder / "out/upper/b c.txt").unlink()
    assert "1 of 2 items" in project.rvrun("plan").stdout
    project.rvrun("run", "local")
    assert project.read("out/all") == "A\nB\ny\n"
    assert stale(project) == []


def test_an_output_that_is_not_written(project: Project) -> None:
    project.write("pipeline.toml", '[commands.a]\nrun = ["true"]\noutputs = ["{root}/{{x}}.txt"]\n')
    done = project.rvrun("run", "local", code=1)
    assert "out/pipeline/{x}.txt" in done.stderr
    done = project.rvrun("run_command", "runs/pipeline/config/pipeline.json", "a", code=1)
    assert "out/pipeline/{x}.txt" in done.stderr


def test_batch_runs_programs(project: Project, moto: Moto) -> None:
    """Jobs run items, scripts and plain lists; the container is the job's own already."""
    moto.bucket()
    out = project.folder / "result"
    out.mkdir()
    project.write("rvrun.toml", '[batch]\ncpu_job_queue = "q"\ncpu_job_def = "d"\n')
    project.write(
        "pipeline.toml",
        f'name = "p"\nroot = "s3://bucket/x"\n[config]\nout = "{out}"\n'
        '[commands.item]\nitems = ["a", "b c"]\nsplits = 2\ncontainer = "none:1"\n'
        'run = "echo {item} > {config.out}/{item}"\n'
        '[commands.list]\nneeds = ["item"]\n'
        'run = ["cp", "{config.out}/b c", "{config.out}/copy"]\n',
    )
    with BatchEngine(environment=moto.variables) as engine:
        engine.add_queue("q")
        engine.add_definition("d")
        variables = {**moto.variables, **engine.variables}
        project.rvrun("run", "batch", "--out", "runs/aws", "--wait", code=0, **variables)
    assert {p.name: p.read_text() for p in out.iterdir()} == {
        "a": "a\n",
        "b c": "b c\n",
        "copy": "b c\n",
    }


def test_sagemaker_runs_the_container(project: Project) -> None:
    """The image of a command is that of its jobs, unless the settings name one for the command."""
    project.write(
        "rvrun.toml",
        '[sagemaker]\nrole = "arn:aws:iam::123456789012:role/x"\ncpu_image = "general"\n'
        'cpu_instance_type = "ml.m5.large"\n[sagemaker.commands.own]\nimage = "setting"\n',
    )
    project.write(
        "pipeline.toml",
        'root = "s3://bucket/x"\n'
        '[commands.plain]\nrun = ["prog", "x"]\n'
        '[commands.inside]\ncontainer = { image = "inside" }\nrun = ["prog", "y"]\n'
        '[commands.own]\ncontainer = "inside"\nrun = ["prog", "z"]\n',
    )
    project.rvrun("render", "sagemaker", "--out", "runs/aws")
    path = project.folder / "runs/aws/sagemaker/pipeline.definition.json"
    steps = json.loads(path.read_text(encoding="utf-8"))["Steps"]
    images = [step["Arguments"]["AppSpecification"]["ImageUri"] for step in steps]
    assert images == ["general", "inside", "setting"]
    container = steps[1]["Arguments"]["AppSpecification"]
    assert container["ContainerEntrypoint"] == ["prog"]
    assert container["ContainerArguments"] == ["y"]
