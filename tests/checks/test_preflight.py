"""`rvrun check`, on machines and projects that really are as they should not be."""

from __future__ import annotations

import fcntl
import json
import os
import pathlib
import pty
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator

import pytest

from rvrun.checks import preflight as check
from tests.conftest import Project, clean_environment

#: Found on every machine alike.
NO_GPUS = {"CUDA_VISIBLE_DEVICES": ""}

WORK = """
import rvrun

class WorkConfig(rvrun.PipelineConfig):
    def build(self):
        return Work(self)

class Work(rvrun.Pipeline):
    commands = ("work",)
    def work(self):
        pass
"""


def config(*lines: str) -> str:
    """A config's file whose `get_config` has these lines."""
    body = "\n".join(f"    {line}" for line in lines)
    return f"{WORK}\ndef get_configs(runner):\n{body}\n"


def problems(
    project: Project, *words: str, code: int = 0, **env: str
) -> list[tuple[str, str, str, str]]:
    """The findings of `rvrun check` that are not ok; the exit code tells of errors."""
    done = project.rvrun("check", "--json", *words, code=code, **{**NO_GPUS, **env})
    return [
        (each["level"], each["subject"], each["text"], each["mend"])
        for each in json.loads(done.stdout)
        if each["level"] != "ok"
    ]


def subjects(project: Project, *words: str, code: int = 0, **env: str) -> list[str]:
    """What was checked, with the level where that is not ok."""
    done = project.rvrun("check", "--json", *words, code=code, **{**NO_GPUS, **env})
    return [
        each["subject"] if each["level"] == "ok" else f"{each['subject']}: {each['level']}"
        for each in json.loads(done.stdout)
    ]


def same_everywhere(text: str) -> str:
    """What differs by machine, by a word for it."""
    for pattern, word in (
        (r"\d+\.\d+\.\d+ \(/.*/python[\d.]*\)", "VERSION (PYTHON)"),
        (r"\d\S* \(/.*/rvrun\)", "VERSION (FOLDER)"),
        (r"GNU Make \S+ \(/.*/make\)", "GNU Make VERSION (MAKE)"),
        (r"\d+ targets? at once on \d+ CPUs?", "N targets at once on N CPUs"),
        (r"\d+ ms", "N ms"),
    ):
        text = re.sub(pattern, word, text)
    return text


HEALTHY = """\
ok       python    VERSION (PYTHON)
ok       rvrun     VERSION (FOLDER)
ok       runner    local
ok       make      GNU Make VERSION (MAKE)
ok       shell     /bin/sh
ok       settings  all as by default
ok       jobs      N targets at once on N CPUs
ok       gpus      0 GPUs found; 1 GPU target at once
ok       config    tiny.py: 1 pipeline, tiny
ok       plan      tiny: 8 targets in 4 stages
ok       files     8 files rendered
ok       targets   in its own process each builds its pipeline; starting takes N ms
ok       run dir   runs/tiny can be made
ok       root_uri  tiny: out/tiny can be made
14 ok
"""


def test_all_is_well_and_nothing_is_written(tiny: Project) -> None:
    """Of the tiny example there is nothing to say but how things are, and no file is left."""
    done = tiny.rvrun("check", "tiny.py", "-s", "3", **NO_GPUS)
    assert (same_everywhere(done.stdout), done.stderr) == (HEALTHY, "")
    assert os.listdir(tiny.folder) == ["tiny.py"]


def test_after_a_run_all_is_well_too(tiny: Project) -> None:
    """What a run leaves is no problem for the next, whether named by source or saved config."""
    tiny.rvrun("run", "local", "tiny.py")
    for source in ("tiny.py", "runs/tiny/config/tiny.json"):
        said = tiny.rvrun("check", source, **NO_GPUS).stdout
        assert "run dir   runs/tiny can be written\n" in said
        assert "root_uri  tiny: out/tiny can be read and written\n14 ok\n" in said


def test_without_a_config_the_machine_and_the_settings_are_checked(project: Project) -> None:
    """CONFIG may be left out, also with a run directory."""
    machine = ["python", "rvrun", "runner", "make", "shell", "settings", "jobs", "gpus"]
    assert machine == subjects(project)
    assert [*machine, "run dir"] == subjects(project, "--out", "runs/new")


def test_what_is_about_a_config_needs_one(project: Project) -> None:
    """`rvrun check --splits 4` forgot something, and is not told that all is well."""
    said = project.rvrun("check", "--splits", "4", code=2).stderr
    assert said == "rvrun: --splits is about a config; name it: rvrun check CONFIG\n"


def test_quiet_tells_only_what_is_wrong(tiny: Project) -> None:
    """`-q` leaves out what is ok, and the count."""
    assert tiny.rvrun("-q", "check", "tiny.py", **NO_GPUS).stdout == ""
    assert tiny.rvrun("-q", "check", "tiny.py", "-s", "7", **NO_GPUS).stdout == (
        "warning  splits    tiny/cut has 7 splits for 6 items: 1 will have nothing to do\n"
        "         mend: give a lower number with --splits\n"
        "warning  splits    tiny/count has 7 splits for 6 items: 1 will have nothing to do\n"
        "         mend: give a lower number with --splits\n"
    )


# The machine


@pytest.fixture
def bin_folder(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A folder with `rvrun` alone, to be all that is on PATH."""
    folder = tmp_path_factory.mktemp("bin")
    (folder / "rvrun").symlink_to(pathlib.Path(sys.executable).with_name("rvrun"))
    return folder


def write_program(path: pathlib.Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
    path.chmod(0o755)


INSTALL = "install GNU make: `apt-get install make`, or `xcode-select --install`"  # both are typed


def test_no_make(tiny: Project, bin_folder: pathlib.Path) -> None:
    """Without make the runner `local` cannot work, and `inprocess` can."""
    path = str(bin_folder)
    assert problems(tiny, "tiny.py", code=2, PATH=path) == [
        ("error", "make", "not found on PATH", f"{INSTALL}, or use --runner inprocess")
    ]
    assert problems(tiny, "tiny.py", "--runner", "inprocess", PATH=path) == []


@pytest.mark.parametrize(
    ("script", "text", "mend"),
    [
        (
            "#!/bin/sh\necho GNU Make 3.80\necho Copyright\n",
            "GNU Make 3.80 (MAKE) is older than 3.81",
            "install GNU Make 3.81 or newer, first on PATH",
        ),
        (
            "#!/bin/sh\necho 'GNU Make version 3.79.1, by Richard Stallman'\n",
            "GNU Make version 3.79.1, by Richard Stallman (MAKE) is older than 3.81",
            "install GNU Make 3.81 or newer, first on PATH",
        ),
        (
            "#!/bin/sh\necho 'usage: make [-BeikNnqrSstWwX]' >&2\nexit 2\n",
            "MAKE is not GNU make; `make --version` says: usage: make [-BeikNnqrSstWwX]",
            INSTALL,
        ),
        ("#!/bin/sh\n", "MAKE is not GNU make; `make --version` says nothing", INSTALL),
        (
            "#!/nowhere/sh\n",
            "MAKE is not GNU make; `make --version` says: FileNotFoundError: [Errno 2] "
            "No such file or directory: 'MAKE'",
            INSTALL,
        ),
    ],
    ids=["old", "very old", "BSD", "silent", "broken"],
)
def test_a_make_that_will_not_do(
    tiny: Project, bin_folder: pathlib.Path, script: str, text: str, mend: str
) -> None:
    """make is asked what it is."""
    make = bin_folder / "make"
    write_program(make, script)
    found = problems(tiny, "tiny.py", code=2, PATH=str(bin_folder))
    assert [("error", "make", text.replace("MAKE", str(make)), mend)] == found


@pytest.mark.parametrize("version", ["3.81", "3.82.90", "4.4.1", "10.0"])
def test_a_make_that_will_do(tiny: Project, bin_folder: pathlib.Path, version: str) -> None:
    """Versions are compared as numbers."""
    write_program(bin_folder / "make", f"#!/bin/sh\necho GNU Make {version}\n")
    assert problems(tiny, "tiny.py", PATH=str(bin_folder)) == []


def test_gnu_make_by_its_other_name(tiny: Project, bin_folder: pathlib.Path) -> None:
    """On BSD it is called gmake; the mend makes it be found as make."""
    write_program(bin_folder / "make", "#!/bin/sh\necho usage: make >&2\nexit 2\n")
    write_program(bin_folder / "gmake", "#!/bin/sh\necho GNU Make 4.4\n")
    ((_, _, _, mend),) = problems(tiny, code=2, PATH=str(bin_folder))
    _, link, _ = mend.split("`")
    home = tiny.folder / "home"
    done = tiny.run("/bin/sh", "-c", f"{link} && make --version", HOME=str(home))
    assert done.stdout == "GNU Make 4.4\n"


def test_rvrun_not_on_path(tiny: Project, bin_folder: pathlib.Path) -> None:
    """Then the Makefile works under `rvrun run local` only, unless RVRUN is set for make."""
    (bin_folder / "rvrun").unlink()
    (bin_folder / "make").symlink_to(shutil.which("make") or "")
    command = (sys.executable, "-P", "-m", "rvrun", "-q", "check", "tiny.py")
    path = str(bin_folder)
    said = tiny.run(*command, PATH=path, **NO_GPUS).stdout
    assert said == (
        "warning  rvrun     not on PATH: `rvrun run local` works, `make` typed by hand does not\n"
        f"         mend: add {os.path.dirname(sys.executable)} to PATH, or type make "
        f"RVRUN='{sys.executable} -P -m rvrun'\n"
    )
    assert tiny.run(*command, PATH=path, RVRUN="/x/rvrun", **NO_GPUS).stdout == ""


def test_no_shell(monkeypatch: pytest.MonkeyPatch) -> None:
    """make's recipes need /bin/sh, which is looked for where it should be."""
    monkeypatch.setattr(check, "SHELL", "/nowhere/sh")
    assert list(check.check_shell(check.Case(check.Asked()))) == [
        check.error(
            "shell",
            "there is no /nowhere/sh, by which make runs recipes",
            "install a shell there, for example `ln -s $(command -v bash) /nowhere/sh`",
        )
    ]


def test_a_runner_that_does_not_exist(tiny: Project) -> None:
    """Its config is not loaded then, for what it says may depend on the runner."""
    words = ("tiny.py", "--runner", "lokal")
    assert problems(tiny, *words, code=2) == [
        (
            "error",
            "runner",
            "unknown runner `lokal`, did you mean `local`?; known: `batch`, `inprocess`, `local`, "
            "`sagemaker`",
            "type --runner batch or --runner inprocess or --runner local or --runner sagemaker",
        )
    ]
    assert "config" not in subjects(tiny, *words, code=2)


# Settings


def test_settings_that_are_set_are_shown_with_their_origin(tiny: Project) -> None:
    """The number of jobs, too, comes from them."""
    tiny.write("rvrun.toml", "[local]\njobs = 3\n")
    said = tiny.rvrun("check", RVRUN_LOCAL_GPUS="0,1", RVRUN_LOCAL_GPU_SLOTS="4").stdout
    assert (
        "ok       settings  local.jobs = 3 (rvrun.toml), local.gpus = 0,1 (RVRUN_LOCAL_GPUS), "
        "local.gpu_slots = 4 (RVRUN_LOCAL_GPU_SLOTS)\n"
        "ok       jobs      3 targets at once on "
    ) in said
    assert "GPUs found; 4 GPU targets at once on 0, 1\n" in said


def test_an_unknown_variable(tiny: Project) -> None:
    """The sentence says which is meant; the config is checked nevertheless."""
    (found,) = problems(tiny, "tiny.py", code=2, RVRUN_LOCAL_JOBBS="3")
    assert found[0::3] == ("error", "unset RVRUN_LOCAL_JOBBS, or give it a name that is known")
    assert found[2].startswith(
        "unknown environment variable `RVRUN_LOCAL_JOBBS`, did you mean `RVRUN_LOCAL_JOBS`?"
    )
    checked = subjects(tiny, "tiny.py", code=2, RVRUN_LOCAL_JOBBS="3")
    assert {"config", "plan", "targets", "root_uri"} <= set(checked)


@pytest.mark.parametrize(
    ("toml", "text", "mend"),
    [
        ("job = 3", "unknown setting `job`", "take `job` out of FILE, or give it a name"),
        ("local.jobs = 0", "rvrun.toml: `local.jobs` cannot be 0", "change it in rvrun.toml"),
        ("local = [", "FILE: cannot be read: ", "change it in FILE"),
    ],
)
def test_a_settings_file_with_an_error(tiny: Project, toml: str, text: str, mend: str) -> None:
    """The mend names the file."""
    file = str(tiny.write("rvrun.toml", toml))
    ((level, subject, says, mends),) = problems(tiny, "tiny.py", code=2)
    assert (level, subject) == ("error", "settings")
    assert says.startswith(text.replace("FILE", file))
    assert mends.startswith(mend.replace("FILE", file))


def test_a_profile_that_is_not_there(project: Project) -> None:
    """The option before the verb counts."""
    env = {**NO_GPUS, "RV_CONFIG_DIR": "/nowhere"}
    said = project.rvrun("-p", "night", "-q", "check", code=2, **env).stdout
    assert said == (
        "error    settings  profile `night`: there is no file /nonexistent/rvrun/night.toml nor "
        "/nowhere/night\n"
        "         mend: write that file, or leave out --profile and RVRUN_PROFILE\n"
    )


def test_templates(tiny: Project) -> None:
    """They are in a folder, have the names of rvrun's own, and can be rendered."""
    change = "change --templates or the setting `templates` (RVRUN_TEMPLATES)"
    words = ("tiny.py", "--templates", "own")
    assert problems(tiny, *words, code=2)[0] == (
        "error",
        "templates",
        "there is no folder own",
        change,
    )
    tiny.write("own/makefile.j2", "")
    ((level, _, text, mend),) = problems(tiny, *words)
    assert (level, text) == (
        "warning",
        "own has none that replaces one of rvrun's (Makefile.j2, batch-job.json.j2, "
        "sagemaker.json.j2)",
    )
    assert mend == f"write own/Makefile.j2, or {change}"
    tiny.write("own/Makefile.j2", "all:\n")
    assert "templates" in subjects(tiny, *words)
    tiny.write("own/Makefile.j2", "{{ misspelled }}")
    assert problems(tiny, *words, code=2) == [
        (
            "error",
            "files",
            "template Makefile.j2: 'misspelled' is undefined",
            "correct the template Makefile.j2",
        )
    ]


# GPUs


GPU = config("return [WorkConfig(root_uri='out')]").replace(
    "commands =", "gpu_commands = commands ="
)


def test_gpu_commands_without_a_gpu(project: Project) -> None:
    """They would run all the same, so that is a warning."""
    project.write("cfg.py", GPU)
    assert problems(project, "cfg.py") == [
        (
            "warning",
            "gpus",
            "none found, wanted by work/work",
            "run where `nvidia-smi -L` lists one, or name one: RVRUN_LOCAL_GPUS=0",
        )
    ]
    assert problems(project, "cfg.py", CUDA_VISIBLE_DEVICES="1") == []


def test_gpu_slots_that_cannot_be_locked(project: Project) -> None:
    """A folder for the locks matters where GPUs are wanted, only."""
    project.write("cfg.py", GPU)
    locks = str(project.write("file", "")) + "/locks"
    env = {"RVRUN_LOCAL_GPU_LOCKS": locks}
    assert problems(project, "cfg.py", code=2, **env) == [
        (
            "error",
            "gpus",
            f"the slots' lock files cannot be written: {project.folder}/file is a file",
            "name another with the setting `local.gpu_locks` (RVRUN_LOCAL_GPU_LOCKS)",
        )
    ]
    project.write("cfg.py", config("return [WorkConfig(root_uri='out')]"))
    assert problems(project, "cfg.py", **env) == []


# The config


def test_a_config_that_raises(project: Project) -> None:
    """Its error is a finding, its traceback follows; what needs the config is left out."""
    project.write("cfg.py", config("raise RuntimeError('no scenes\\nin the list')"))
    done = project.rvrun("check", "cfg.py", code=2, **NO_GPUS)
    after = done.stdout.partition("error    ")[2]
    assert after == (
        "config    `get_configs` of cfg.py raised RuntimeError: no scenes\n"
        "                   in the list\n"
        "         mend: change your code where its traceback points\n"
        "ok       run dir   runs/cfg can be made\n"
        "9 ok, 1 error\n"
    )
    assert done.stderr == (
        "Traceback (most recent call last):\n"
        f'  File "{project.folder}/cfg.py", line 14, in get_configs\n'
        "    raise RuntimeError('no scenes\\nin the list')\n"
        "RuntimeError: no scenes\n"
        "in the list\n"
    )


@pytest.mark.parametrize(
    ("source", "text", "mend"),
    [
        (
            "cfg.py",
            "importing `FOLDER/cfg.py` raised ModuleNotFoundError: No module named 'torhc'",
            "install `torhc` for PYTHON, or add its folder to PYTHONPATH",
        ),
        (
            "cfgs",
            "cannot import `cfgs`: there is no such module",
            "name a file, or a module that PYTHON can import from here",
        ),
        ("saved.json", "saved.json: is not JSON (", "change saved.json"),
    ],
    ids=["missing import", "no module", "no JSON"],
)
def test_a_config_that_cannot_be_loaded(
    project: Project, source: str, text: str, mend: str
) -> None:
    """The mend is for what is missing."""
    project.write("cfg.py", "import torhc\n")
    project.write("saved.json", "{")
    ((level, subject, says, mends),) = problems(project, source, code=2)
    assert (level, subject) == ("error", "config")
    assert says.startswith(text.replace("FOLDER", str(project.folder)))
    assert re.sub(r"/\S+/python[\d.]*", "PYTHON", mends) == mend


@pytest.mark.parametrize(
    ("key", "value", "mend"),
    [
        ("top", "many", "change the -a arguments"),
        ("topp", "3", "take -a topp out, or give it a name that is known"),
    ],
)
def test_arguments_that_do_not_fit(tiny: Project, key: str, value: str, mend: str) -> None:
    """`-a` is given to `get_config` as for a run."""
    ((_, subject, _, mends),) = problems(tiny, "tiny.py", "-a", key, value, code=2)
    assert ("config", mend) == (subject, mends)


def test_a_config_that_only_get_config_makes_importable(project: Project) -> None:
    """A target calls no `get_config`, so the folder it added is not searched there."""
    project.write("vendor/parts.py", WORK)
    project.write(
        "cfg.py",
        "import sys\n"
        "def get_config(runner):\n"
        "    sys.path.append('vendor')\n"
        "    from parts import WorkConfig\n"
        "    return WorkConfig(root_uri='out')\n",
    )
    ((level, subject, text, mend),) = problems(project, "cfg.py", code=2)
    assert (level, subject) == ("error", "targets")
    assert text == (
        "in a process of its own work cannot be built: cannot import `parts`: "
        "there is no such module"
    )
    assert "PYTHONPATH" in mend
    project.rvrun("run", "local", "cfg.py", code=1)
    project.run("rvrun", "check", "cfg.py", PYTHONPATH=with_path("vendor"))
    project.run("rvrun", "run", "local", "cfg.py", PYTHONPATH=with_path("vendor"))


def with_path(folder: str) -> str:
    """PYTHONPATH as the mend says."""
    return os.pathsep.join([folder, *filter(None, [os.environ.get("PYTHONPATH")])])


def test_a_pipeline_that_builds_only_here(project: Project) -> None:
    """Each pipeline has a process; of one that raises there the traceback is shown."""
    project.write(
        "cfg.py",
        config(
            "global SCENES",
            "SCENES = 3",
            "return [WorkConfig(root_uri=f'out/{n}', name=n) for n in ('one', 'two')]",
        ).replace(
            "return Work(self)",
            "return Work(self) if self.name == 'one' else SCENES and Work(self)",
        ),
    )
    done = project.rvrun("check", "cfg.py", code=2, **NO_GPUS)
    assert (
        "error    targets   in a process of its own two cannot be built: NameError: " in done.stdout
    )
    assert "ok       targets   in its own process each builds its pipeline" in done.stdout
    assert done.stdout.endswith("\n15 ok, 1 error\n")
    file = project.folder / "cfg.py"
    assert done.stderr.startswith(f'Traceback (most recent call last):\n  File "{file}", line 6')
    assert "NameError: name 'SCENES' is not defined\n" in done.stderr


# The plan


@pytest.mark.parametrize(
    ("words", "text", "mend"),
    [
        (("-s", "0"), "--splits 0: a command has 1 to 10,000,000 splits", "change --splits"),
        (("-s", "sum=2"), "--splits sum=2: `sum` is not one of the", "change --splits"),
        (("-s", "kut=2"), "unknown command `kut` in --splits kut=2, did", "change --splits"),
        (("cuts",), "unknown command `cuts`, did you", "type one of: cut count sum show"),
        (
            ("-s", "cut=2"),
            "`count` of pipeline `tiny` needs `cut` aligned",
            "change names, `commands` or `needs` in the pipeline's class or config",
        ),
    ],
)
def test_a_plan_that_does_not_compile(
    tiny: Project, words: tuple[str, ...], text: str, mend: str
) -> None:
    """Commands and splits are those that would be given to `run`; nothing is rendered."""
    ((level, subject, says, mends),) = problems(tiny, "tiny.py", *words, code=2)
    assert ("error", "plan", mend) == (level, subject, mends)
    assert says.startswith(text)
    assert "files" not in subjects(tiny, "tiny.py", *words, code=2)


def test_selected_commands_are_counted(tiny: Project) -> None:
    """As `rvrun plan` counts them."""
    said = tiny.rvrun("check", "tiny.py", "cut", "sum", "-s", "2").stdout
    assert "ok       plan      tiny: 3 targets in 2 stages\n" in said


def test_a_name_too_long_for_the_file_system(project: Project) -> None:
    """A name may be fine for make and still be none for a file; a run shows that it is not."""
    limit = os.pathconf(project.folder, "PC_NAME_MAX")
    long = "n" * (limit - len(".json"))
    project.write("cfg.py", config(f"return [WorkConfig(root_uri='out', name={long!r})]"))
    assert problems(project, "cfg.py", code=2) == [
        (
            "error",
            "files",
            f"the file system has names of {limit} bytes at most, too few for {long}.json",
            "give the pipeline a shorter `name`",
        )
    ]
    assert "name too long" in project.rvrun("run", "local", "cfg.py", code=2).stderr


# Places


def test_a_foreign_makefile(tiny: Project) -> None:
    """What `run` would refuse to replace is found before."""
    tiny.write("runs/tiny/Makefile", "all:\n")
    assert problems(tiny, "tiny.py", code=2) == [
        (
            "error",
            "run dir",
            "runs/tiny has a Makefile that rvrun did not write",
            "name another with --out",
        )
    ]
    assert problems(tiny, "tiny.py", "--out", "runs/other") == []


def test_a_file_where_the_run_directory_should_be(tiny: Project) -> None:
    """Or where a folder above it should be."""
    tiny.write("runs", "")
    for out, blocking in (("runs", "runs"), ("runs/a/b", f"{tiny.folder}/runs")):
        assert problems(tiny, "tiny.py", "--out", out, code=2) == [
            (
                "error",
                "run dir",
                f"{out} cannot be used: {blocking} is a file",
                "name another with --out",
            )
        ]


@pytest.fixture
def holder(tiny: Project) -> Iterator[subprocess.Popen[str]]:
    """A process that holds the run directory, as a run does."""
    code = (
        "import pathlib; from rvrun.rundir.lock import locked\n"
        "with locked(pathlib.Path('runs/tiny')): print('held', flush=True); input()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=tiny.folder,
        env=clean_environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_a_run_directory_in_use(tiny: Project, holder: subprocess.Popen[str]) -> None:
    """The process that holds it is named; once it ended, all is well."""
    (found,) = problems(tiny, "tiny.py", code=2)
    assert found == (
        "error",
        "run dir",
        f"runs/tiny is in use: another rvrun (process {holder.pid}) is running in it",
        "wait until that ends, or name another with --out",
    )
    holder.communicate("\n")
    assert problems(tiny, "tiny.py") == []


def test_two_checks_are_not_in_each_others_way(tiny: Project) -> None:
    """A check holds the lock with others, not against them."""
    tiny.rvrun("run", "local", "tiny.py")
    with open(tiny.folder / "runs/tiny/.lock", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        assert problems(tiny, "tiny.py") == []


@pytest.mark.parametrize(
    ("root", "problem"),
    [
        ("tiny.py", "tiny.py is a file"),
        ("tiny.py/out", "FOLDER/tiny.py is a file"),
        ("/dev/null", "/dev/null is no folder"),
        pytest.param(
            "/proc/out",
            "in /proc no file can be written: No such file or directory",
            marks=pytest.mark.skipif(sys.platform != "linux", reason="Linux has /proc"),
        ),
    ],
)
def test_a_root_that_cannot_be_written(tiny: Project, root: str, problem: str) -> None:
    """It is tried, for what permissions say may not be so; root may all and cannot all."""
    assert problems(tiny, "tiny.py", "-a", "root_uri", root, code=2) == [
        (
            "error",
            "root_uri",
            f"tiny: {root} cannot be used: {problem.replace('FOLDER', str(tiny.folder))}",
            "change `root_uri` in tiny.py, or make it a folder you can write",
        )
    ]


def test_a_link_that_leads_nowhere(tiny: Project) -> None:
    """No folder can be made there, though nothing is there."""
    (tiny.folder / "out").symlink_to("gone")
    ((_, subject, text, _),) = problems(tiny, "tiny.py", code=2)
    assert ("root_uri", f"tiny: out/tiny cannot be used: {tiny.folder}/out is no folder") == (
        subject,
        text,
    )


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_root_without_permission(tiny: Project) -> None:
    """Who may not write there is told so."""
    (tiny.folder / "out").mkdir(mode=0o555)
    ((_, subject, text, _),) = problems(tiny, "tiny.py", code=2)
    assert subject == "root_uri"
    assert text.endswith("out cannot be read and written by you")


def test_a_root_that_is_no_path(tiny: Project) -> None:
    """rvrun reaches no bucket, so it says that it did not look."""
    assert problems(tiny, "tiny.py", "-a", "root_uri", "s3://bucket/tiny") == [
        (
            "warning",
            "root_uri",
            "tiny: s3://bucket/tiny is not checked: s3:// is for the pipeline's own code to reach",
            "see that its commands can read and write s3:// from here, or use a path",
        )
    ]


@pytest.mark.parametrize(
    ("roots", "shared"),
    [
        (("out", "./out/", "other"), "one, two"),
        (("s3://b/x", "other", "s3://b/x/"), "one, three"),
        (("out/a", "out/b", "out"), ""),
    ],
)
def test_pipelines_that_share_a_root(project: Project, roots: tuple[str, ...], shared: str) -> None:
    """However it is written, the same place is the same."""
    named = zip(roots, ("one", "two", "three"), strict=True)
    configs = ", ".join(f"WorkConfig(root_uri={root!r}, name={name!r})" for root, name in named)
    project.write("cfg.py", config(f"return [{configs}]"))
    found = [each for each in problems(project, "cfg.py") if "not checked" not in each[2]]
    expected = (
        "warning",
        "root_uri",
        f"{shared} share {roots[0]} and may overwrite each other's files",
        f"give each its own, such as {roots[0]}/NAME",
    )
    assert ([expected] if shared else []) == found


# How it is told


def test_all_is_told_at_once(tiny: Project, bin_folder: pathlib.Path) -> None:
    """One problem hides no other."""
    tiny.write("runs", "")
    env = {"PATH": str(bin_folder), "RVRUN_JOBS": "x"}
    assert subjects(tiny, "tiny.py", "cuts", "-a", "root_uri", "/dev/null", code=2, **env) == [
        "python",
        "rvrun",
        "runner",
        "make: error",
        "shell",
        "settings: error",
        "config",
        "plan: error",
        "targets",
        "run dir: error",
        "root_uri: error",
    ]


def test_json_is_all_that_is_on_stdout(project: Project) -> None:
    """Also where the config prints; a finding has its traceback with it."""
    project.write("cfg.py", config("print('loading')", "raise RuntimeError('no')"))
    done = project.rvrun("check", "cfg.py", "--json", code=2)
    (found,) = [each for each in json.loads(done.stdout) if each["level"] == "error"]
    details = found.pop("details")
    assert done.stderr == "loading\n"
    assert details.endswith("\nRuntimeError: no\n")
    assert found == {
        "level": "error",
        "subject": "config",
        "text": "`get_configs` of cfg.py raised RuntimeError: no",
        "mend": "change your code where its traceback points",
    }


@pytest.mark.parametrize(("env", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False)])
def test_colours_are_for_terminals(tiny: Project, env: dict[str, str], coloured: bool) -> None:
    """At one, levels are coloured unless NO_COLOR is set; and no line is broken."""
    ours, theirs = pty.openpty()
    environment = clean_environment(TERM="xterm", **NO_GPUS, **env)
    process = subprocess.Popen(
        ["rvrun", "check", "tiny.py"], cwd=tiny.folder, env=environment, stdout=theirs
    )
    os.close(theirs)
    said = b""
    while data := _read(ours):
        said += data
    os.close(ours)
    assert process.wait() == 0
    lines = said.decode().replace("\r\n", "\n")
    assert coloured == ("\x1b[32mok     \x1b[0m  python    " in lines)
    plain = re.sub(r"\x1b\[[\d;]*m", "", lines)
    assert ("\x1b" in lines, len(plain.splitlines())) == (coloured, 15)


def _read(descriptor: int) -> bytes:
    """What comes from a terminal; nothing when its other side is closed, as Linux says by EIO."""
    try:
        return os.read(descriptor, 4096)
    except OSError:
        return b""
