"""What targets of a warm worker take over from what starts them, compared with fresh processes.

One script starts a target in many circumstances, with its own config for each. It runs with and
without a warm worker, and the targets note what they find.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from typing import Any

import pytest

from tests.conftest import PATIENCE, Project, clean_environment
from tests.warm.test_like_fresh import WORLD, Ran, described

pytestmark = pytest.mark.xdist_group("circumstances")
#: Each line starts one target: its name, and a command line in which TARGET stands for the rest.
CIRCUMSTANCES = r"""
plain                TARGET
no_stdin             TARGET <&-
no_stdout            TARGET >&-
no_stderr            TARGET 2>&-
no_streams           TARGET <&- >&- 2>&-
null                 TARGET </dev/null >/dev/null 2>&1
piped                echo text | TARGET | cat
joined               TARGET 2>&1 | cat
appended             TARGET >>appended.txt
both_appended        TARGET >>appended.txt 2>&1
fifo                 TARGET <fifo & echo text >fifo; wait
terminal             : | python terminal.py TARGET
no_stdin_at_terminal : | python terminal.py sh -c 'TARGET <&-; true'
umask                umask 027; TARGET
limits               ulimit -n 100; ulimit -S -s 4096; ulimit -c 0; TARGET
nice                 nice -n 5 TARGET
cpus                 taskset -c 0 TARGET
nohup                nohup TARGET
ignored              trap '' INT TERM USR1 CHLD; TARGET
blocked              python blocked.py TARGET
background           TARGET & wait
job                  set -m; TARGET & wait
make                 make -s -f more.mk make
synchronized         make -s -j2 -O -f more.mk synchronized also | cat
to_a_file            make -s -f more.mk to_a_file >made.txt 2>&1
specific             make -s -f more.mk specific
recursive            make -s -f more.mk outer
odd                  make -s -f odd.mk odd
"""
#: Those that a warm worker leaves to fresh processes, because it cannot give them the same streams.
DECLINED = """
from_file            TARGET <world.py
truncated            TARGET >truncated.txt
socket               python socketed.py TARGET
variable             PYTHONHASHSEED=1 TARGET
locale               LC_ALL=C TARGET
library_path         LD_LIBRARY_PATH=/nonexistent TARGET
"""
MORE = """
make synchronized to_a_file specific recursive: ; $(RVRUN) run_command config/$@.json look
also: ; @echo also
specific: export ONLY = for this target
outer: ; $(MAKE) -s -f more.mk recursive
"""
ODD = b"""
define LINES
one
  two

endef
export LINES
export QUOTES = it's "quoted" $$HOME `x` \\ \\\\
export EMPTY =
export LATIN = caf\xe9
export SIGNS = a=b=c
export VARIABLE = changed
unexport TERM
odd: ; $(RVRUN) run_command config/$@.json look
"""
TERMINAL = """
import pty, sys
pty.spawn(sys.argv[1:])
"""
BLOCKED = """
import os, signal, sys
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1, signal.SIGTERM, signal.SIGHUP])
os.execvp(sys.argv[1], sys.argv[1:])
"""
SOCKETED = """
import socket, subprocess, sys
ours, theirs = socket.socketpair()
ours.close()
subprocess.run(sys.argv[1:], stdin=theirs)
"""


def lines(text: str) -> dict[str, str]:
    return dict(re.split(r"\s+", line, maxsplit=1) for line in text.strip().splitlines())


def start_each(project: Project, text: str, *prefix: str) -> Ran:
    """Start a target in each circumstance, after `prefix`."""
    project.write("world.py", WORLD.read_text(encoding="utf-8"))
    project.rvrun("render", "local", "world.py", "--splits", "1", "--out", "run")
    config = json.loads(project.read("run/config/world.json"))
    script = ["mkfifo fifo; mkdir folder"]
    for name, line in lines(text).items():
        config["config"]["root_uri"] = str(project.folder / "out" / name)
        path = project.write(f"config/{name}.json", json.dumps(config))
        script.append(f"({line.replace('TARGET', f'$RVRUN run_command {path} look')})")
    project.write("script.sh", "\n".join(script))
    for name, content in (("more.mk", MORE), ("terminal.py", TERMINAL), ("blocked.py", BLOCKED)):
        project.write(name, content)
    project.write("socketed.py", SOCKETED)
    (project.folder / "odd.mk").write_bytes(ODD)
    done = subprocess.run(
        [*prefix, "sh", "script.sh"],
        cwd=project.folder,
        env=clean_environment(
            RVRUN=f"{sys.executable} -P -m rvrun", VARIABLE="value", PYTHONUNBUFFERED=""
        ),
        input=b"from a pipe",
        capture_output=True,
        timeout=PATIENCE,
        check=False,
    )
    return Ran(project, done.stderr.decode(errors="replace"))


def world(ran: Ran, name: str) -> dict[str, Any]:
    """What a target noted, without what the circumstance itself makes differ."""
    noted = ran.noted(f"{name}/look")
    path = str(ran.project.folder)
    for number in "012":
        text = noted["descriptors"].pop(number, "closed 0").replace(path, "FOLDER")
        text = re.sub(r"/dev/pts/\d+|pipe:\S+", "it", text)
        path_of, _, flags = text.rstrip().removesuffix(" inherited").rpartition(" ")
        kept = int(flags or "0", 8) & (os.O_ACCMODE | os.O_APPEND)
        # Files without a name; /dev/null may be open for more than is needed.
        shown = re.sub(r"#\d+", "#", path_of) + ("" if "null" in path_of else f" {kept:o}")
        noted[f"descriptor {number}"] = shown
    noted["environ"].pop("_", None)
    # The same interpreter, however it was called.
    del noted["orig_argv"][0]
    # Other signals are the C library's own.
    noted["masks"]["SigCgt"] = noted["masks"]["SigCgt"][-8:]
    if name.startswith("no_"):
        # Python has no object for a closed stream, so rvrun makes one.
        del noted["streams"], noted["same streams"]
    return described(noted, ran)


@pytest.fixture
def projects(processes: None, tmp_path_factory: pytest.TempPathFactory) -> tuple[Project, Project]:
    return Project(tmp_path_factory.mktemp("fresh")), Project(tmp_path_factory.mktemp("warm"))


def test_targets_take_over_their_circumstances(projects: tuple[Project, Project]) -> None:
    """Streams, variables, the working directory, signals, umask, limits, priority and CPUs."""
    fresh = start_each(projects[0], CIRCUMSTANCES)
    warm = start_each(projects[1], CIRCUMSTANCES, "rvrun", "warm", "-v")
    assert "fresh process" not in warm.stderr, warm.stderr
    for name in lines(CIRCUMSTANCES):
        # The client needs both streams, to keep them while it uses their numbers.
        is_fresh = name.startswith("no_st") and name != "no_stderr"
        assert warm.noted(f"{name}/look")["is forked"] != is_fresh, name
        assert world(warm, name) == world(fresh, name), name


def test_what_cannot_be_taken_over_runs_fresh(projects: tuple[Project, Project]) -> None:
    """Files and sockets that a client shares, and variables that Python reads when it starts."""
    warm = start_each(projects[1], DECLINED, "rvrun", "warm", "-v")
    for name in lines(DECLINED):
        assert not warm.noted(f"{name}/look")["is forked"], name
    reasons = re.findall(r"a target started in a fresh process: (.*)", warm.stderr)
    assert sorted(set(reasons)) == [
        "a variable that Python reads when it starts has another value",
        "its input or output is a file or socket that it shares",
    ]
    assert len(reasons) == len(lines(DECLINED))
