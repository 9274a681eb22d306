"""`rvrun check`, on machines and projects that really have the problems it looks for."""

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

from rvrun.finding import error
from rvrun.runners.local import check
from rvrun.settings.schema import Settings
from tests.conftest import Project, clean_environment

#: Found on every machine alike.
NO_GPUS = {"CUDA_VISIBLE_DEVICES": ""}

WORK = """
import rvrun

class WorkConfig(rvrun.PipelineConfig):
    def build(self):
        return Work(self)

class Work(rvrun.Pipeline):
    commands, handles_uris = ("work",), True
    def work(self):
        pass
"""


def config(*lines: str) -> str:
    """A config file whose `get_config` has these lines."""
    body = "\n".join(f"    {line}" for line in lines)
    return f"{WORK}\ndef get_configs(runner):\n{body}\n"


def problems(
    project: Project, *words: str, code: int = 0, **env: str
) -> list[tuple[str, str, str, str]]:
    """The findings of `rvrun check` that are not ok."""
    done = project.rvrun("check", "--json", *words, code=code, **{**NO_GPUS, **env})
    return [
        (finding["level"], finding["subject"], finding["text"], finding["fix"])
        for finding in json.loads(done.stdout)
        if finding["level"] != "ok"
    ]


def subjects(project: Project, *words: str, code: int = 0, **env: str) -> list[str]:
    """The subjects of the findings, with the level unless that is ok."""
    done = project.rvrun("check", "--json", *words, code=code, **{**NO_GPUS, **env})
    return [
        finding["subject"]
        if finding["level"] == "ok"
        else f"{finding['subject']}: {finding['level']}"
        for finding in json.loads(done.stdout)
    ]


def same_everywhere(text: str) -> str:
    """The text with a word for everything that depends on the machine."""
    for pattern, word in (
        (r"\d+\.\d+\.\d+ \(/.*/python[\d.]*\)", "VERSION (PYTHON)"),
        (r"\d\S* \(/.*/rvrun\)", "VERSION (FOLDER)"),
        (r"GNU Make \S+ \(/.*/make\)", "GNU Make VERSION (MAKE)"),
        (r"\d+ targets? in parallel on \d+ CPUs?", "N targets in parallel on N CPUs"),
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
ok       jobs      N targets in parallel on N CPUs
ok       settings  all defaults
ok       gpus      found 0 GPUs; GPU targets run without a limit of their own
ok       config    tiny.py: 1 pipeline, tiny
ok       plan      tiny: 8 targets in 4 stages
ok       files     12 files rendered
ok       targets   each can build its pipeline in its own process; starting takes N ms
ok       run dir   runs/tiny can be created
ok       root_uri  tiny: out/tiny can be created
14 ok
"""


def test_no_findings_and_nothing_is_written(tiny: Project) -> None:
    """The tiny example has no problem, and checking leaves no file."""
    done = tiny.rvrun("check", "tiny.py", "-s", "3", code=0, **NO_GPUS)
    assert (same_everywhere(done.stdout), done.stderr) == (HEALTHY, "")
    assert os.listdir(tiny.folder) == ["tiny.py"]


def test_no_findings_after_a_run(tiny: Project) -> None:
    """What a run leaves is not a problem, whether named by source or saved config."""
    tiny.rvrun("run", "local", "tiny.py")
    for source in ("tiny.py", "runs/tiny/config/tiny.json"):
        output = tiny.rvrun("check", source, code=0, **NO_GPUS).stdout
        assert "run dir   runs/tiny is writable\n" in output
        assert "root_uri  tiny: out/tiny is writable\n14 ok\n" in output


def test_without_a_config_the_machine_and_the_settings_are_checked(project: Project) -> None:
    """CONFIG is optional, also with a run directory."""
    machine = ["python", "rvrun", "runner", "make", "shell", "jobs", "settings", "gpus"]
    assert machine == subjects(project)
    assert [*machine, "run dir"] == subjects(project, "--out", "runs/new")


def test_options_about_a_config_need_one(project: Project) -> None:
    """`rvrun check --splits 4` is an error, as its user forgot something."""
    message = project.rvrun("check", "--splits", "4", code=2).stderr
    assert message == "rvrun: --splits requires a config; add it: rvrun check CONFIG\n"


def test_quiet_prints_only_problems(tiny: Project) -> None:
    """`-q` omits what is ok, and the count."""
    assert tiny.rvrun("-q", "check", "tiny.py", code=0, **NO_GPUS).stdout == ""
    assert tiny.rvrun("-q", "check", "tiny.py", "-s", "7", code=0, **NO_GPUS).stdout == (
        "warning  splits    tiny/cut has 7 splits for 6 items: 1 will have nothing to do\n"
        "         fix: use a lower number with --splits\n"
        "warning  splits    tiny/count has 7 splits for 6 items: 1 will have nothing to do\n"
        "         fix: use a lower number with --splits\n"
    )


# The machine


@pytest.fixture
def bin_folder(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A folder with only `rvrun`, as the whole PATH."""
    folder = tmp_path_factory.mktemp("bin")
    (folder / "rvrun").symlink_to(pathlib.Path(sys.executable).with_name("rvrun"))
    return folder


def write_program(path: pathlib.Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
    path.chmod(0o755)


INSTALL = "install GNU make: `apt-get install make`, or `xcode-select --install`"  # both are typed


def test_no_make(tiny: Project, bin_folder: pathlib.Path) -> None:
    """Without make the runner `local` cannot work, but `inprocess` can."""
    path = str(bin_folder)
    assert problems(tiny, "tiny.py", code=2, PATH=path) == [
        ("error", "make", "not found on PATH", f"{INSTALL}, or use --runner inprocess")
    ]
    assert problems(tiny, "tiny.py", "--runner", "inprocess", PATH=path) == []


@pytest.mark.parametrize(
    ("script", "text", "fix"),
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
            "MAKE is not GNU make; `make --version` prints: usage: make [-BeikNnqrSstWwX]",
            INSTALL,
        ),
        ("#!/bin/sh\n", "MAKE is not GNU make; `make --version` prints nothing", INSTALL),
        (
            "#!/nowhere/sh\n",
            "MAKE is not GNU make; `make --version` prints: FileNotFoundError: [Errno 2] "
            "No such file or directory: 'MAKE'",
            INSTALL,
        ),
    ],
    ids=["old", "very old", "BSD", "silent", "broken"],
)
def test_a_make_that_is_not_usable(
    tiny: Project, bin_folder: pathlib.Path, script: str, text: str, fix: str
) -> None:
    """`make --version` decides."""
    make = bin_folder / "make"
    write_program(make, script)
    findings = problems(tiny, "tiny.py", code=2, PATH=str(bin_folder))
    assert findings == [("error", "make", text.replace("MAKE", str(make)), fix)]


@pytest.mark.parametrize("version", ["3.81", "3.82.90", "4.4.1", "10.0"])
def test_a_make_that_is_usable(tiny: Project, bin_folder: pathlib.Path, version: str) -> None:
    """Versions are compared as numbers."""
    write_program(bin_folder / "make", f"#!/bin/sh\necho GNU Make {version}\n")
    assert problems(tiny, "tiny.py", PATH=str(bin_folder)) == []


def test_gnu_make_by_its_other_name(tiny: Project, bin_folder: pathlib.Path) -> None:
    """On BSD it is called gmake; the fix lets it be found as make."""
    write_program(bin_folder / "make", "#!/bin/sh\necho usage: make >&2\nexit 2\n")
    write_program(bin_folder / "gmake", "#!/bin/sh\necho GNU Make 4.4\n")
    ((_, _, _, fix),) = problems(tiny, code=2, PATH=str(bin_folder))
    _, link, _ = fix.split("`")
    home = tiny.folder / "home"
    done = tiny.run("/bin/sh", "-c", f"{link} && make --version", HOME=str(home))
    assert done.stdout == "GNU Make 4.4\n"


def test_rvrun_not_on_path(tiny: Project, bin_folder: pathlib.Path) -> None:
    """Then the Makefile works only under `rvrun run local`, unless RVRUN is set."""
    (bin_folder / "rvrun").unlink()
    (bin_folder / "make").symlink_to(shutil.which("make") or "")
    command = (sys.executable, "-P", "-m", "rvrun", "-q", "check", "tiny.py")
    path = str(bin_folder)
    output = tiny.run(*command, PATH=path, code=0, **NO_GPUS).stdout
    assert output == (
        "warning  rvrun     not on PATH: `rvrun run local` works, but `make` typed by hand does "
        "not\n"
        f"         fix: add {os.path.dirname(sys.executable)} to PATH, or type make "
        f"RVRUN='{sys.executable} -P -m rvrun'\n"
    )
    assert tiny.run(*command, PATH=path, RVRUN="/x/rvrun", code=0, **NO_GPUS).stdout == ""


@pytest.mark.usefixtures("processes")
def test_no_shell(monkeypatch: pytest.MonkeyPatch) -> None:
    """Recipes of make need /bin/sh."""
    monkeypatch.setattr(check, "SHELL", "/nowhere/sh")
    findings = [f for f in check.check_machine(Settings()) if f.subject == "shell"]
    assert findings == [
        error(
            "shell",
            "there is no /nowhere/sh, which make uses for recipes",
            "install a shell there, for example `ln -s $(command -v bash) /nowhere/sh`",
        )
    ]


def test_a_runner_that_does_not_exist(tiny: Project) -> None:
    """The config is not loaded then, as it may depend on the runner."""
    words = ("tiny.py", "--runner", "lokal")
    assert problems(tiny, *words, code=2) == [
        (
            "error",
            "runner",
            "unknown runner `lokal`; did you mean `local`? Known runners: `batch`, `inprocess`, "
            "`local`, `sagemaker`, `slurm`",
            "type --runner batch or --runner inprocess or --runner local or --runner sagemaker or "
            "--runner slurm",
        )
    ]
    assert "config" not in subjects(tiny, *words, code=2)


# Settings


def test_settings_that_are_set_are_shown_with_their_origin(tiny: Project) -> None:
    """The number of jobs comes from them, too."""
    tiny.write("rvrun.toml", "[local]\njobs = 3\n")
    output = tiny.rvrun("check", RVRUN_LOCAL_GPUS="0,1", RVRUN_LOCAL_GPU_SLOTS="4").stdout
    assert (
        "ok       settings  local.jobs = 3 (rvrun.toml), local.gpus = 0,1 (RVRUN_LOCAL_GPUS), "
        "local.gpu_slots = 4 (RVRUN_LOCAL_GPU_SLOTS)\n"
    ) in output
    assert "ok       jobs      3 targets in parallel on " in output
    assert "GPUs; 4 GPU targets in parallel on 0, 1\n" in output


def test_an_unknown_variable(tiny: Project) -> None:
    """The message suggests the right one; the config is checked nevertheless."""
    (finding,) = problems(tiny, "tiny.py", code=2, RVRUN_LOCAL_JOBBS="3")
    assert finding[0::3] == ("error", "unset RVRUN_LOCAL_JOBBS, or give it a known name")
    assert finding[2].startswith(
        "unknown environment variable `RVRUN_LOCAL_JOBBS`; did you mean `RVRUN_LOCAL_JOBS`?"
    )
    checked = subjects(tiny, "tiny.py", code=2, RVRUN_LOCAL_JOBBS="3")
    assert {"config", "plan", "targets", "root_uri"} <= set(checked)


@pytest.mark.parametrize(
    ("toml", "text", "fix"),
    [
        ("job = 3", "unknown setting `job`", "remove `job` from FILE, or give it a known name"),
        (
            "local.jobs = 0",
            "rvrun.toml: `local.jobs` must be an integer between 1 and 100000, got 0",
            "change it in rvrun.toml",
        ),
        ("local = [", "FILE: is not TOML (", "correct that file"),
    ],
)
def test_a_settings_file_with_an_error(tiny: Project, toml: str, text: str, fix: str) -> None:
    """The fix names the file."""
    file = str(tiny.write("rvrun.toml", toml))
    ((level, subject, says, actual_fix),) = problems(tiny, "tiny.py", code=2)
    assert (level, subject) == ("error", "settings")
    assert says.startswith(text.replace("FILE", file))
    assert actual_fix.startswith(fix.replace("FILE", file))


def test_a_profile_that_does_not_exist(project: Project) -> None:
    """The option before the verb counts."""
    env = {**NO_GPUS, "RV_CONFIG_DIR": "/nowhere"}
    output = project.rvrun("-p", "night", "-q", "check", code=2, **env).stdout
    assert output == (
        "error    settings  profile `night`: there is no file /nonexistent/rvrun/night.toml or "
        "/nowhere/night\n"
        "         fix: write that file, or omit --profile and RVRUN_PROFILE\n"
    )


def test_templates(tiny: Project) -> None:
    """The folder exists, has a template of the runner, and that renders."""
    change = "change --templates or the setting `templates` (RVRUN_TEMPLATES)"
    words = ("tiny.py", "--templates", "own")
    assert problems(tiny, *words, code=2)[0] == (
        "error",
        "templates",
        "there is no directory own",
        change,
    )
    tiny.write("own/makefile.j2", "")
    ((level, _, text, fix),) = problems(tiny, *words)
    assert (level, text) == (
        "warning",
        "own has no template of this runner (Makefile.j2)",
    )
    assert fix == f"write own/Makefile.j2, or {change}"
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
    "commands, handles_uris =", 'gpu_commands = ("work",)\n    commands, handles_uris ='
)


def test_gpu_commands_without_a_gpu(project: Project) -> None:
    """They would run nevertheless, so that is a warning."""
    project.write("cfg.py", GPU)
    assert problems(project, "cfg.py") == [
        (
            "warning",
            "gpus",
            "no GPU found, but required by: work/work",
            "run where `nvidia-smi -L` lists a GPU, or set RVRUN_LOCAL_GPUS=0",
        )
    ]
    assert problems(project, "cfg.py", CUDA_VISIBLE_DEVICES="1") == []


def test_gpu_slots_that_cannot_be_locked(project: Project) -> None:
    """The folder of the locks matters only if a command needs a GPU."""
    project.write("cfg.py", GPU)
    locks = str(project.write("file", "")) + "/locks"
    env = {"RVRUN_LOCAL_GPU_LOCKS": locks}
    assert problems(project, "cfg.py", code=2, **env) == [
        (
            "error",
            "gpus",
            f"the slots' lock files cannot be written: {project.folder}/file is a file",
            "choose another directory with the setting `local.gpu_locks` (RVRUN_LOCAL_GPU_LOCKS)",
        )
    ]
    project.write("cfg.py", config("return [WorkConfig(root_uri='out')]"))
    assert problems(project, "cfg.py", code=0, **env) == []


# The config


def test_a_config_that_raises(project: Project) -> None:
    """Its error is a finding, its traceback follows; checks that need the config are skipped."""
    project.write("cfg.py", config("raise RuntimeError('no scenes\\nin the list')"))
    done = project.rvrun("check", "cfg.py", code=2, **NO_GPUS)
    after = done.stdout.partition("error    ")[2]
    assert after == (
        "config    `get_configs` of cfg.py raised RuntimeError: no scenes\n"
        "                   in the list\n"
        "         fix: change your code where its traceback points\n"
        "ok       run dir   runs/cfg can be created\n"
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
    ("source", "text", "fix"),
    [
        (
            "cfg.py",
            "importing `FOLDER/cfg.py` raised ModuleNotFoundError: No module named 'torhc'",
            "install `torhc` for PYTHON, or add its directory to PYTHONPATH",
        ),
        (
            "cfgs",
            "cannot import `cfgs`: there is no such module",
            "name a file, or a module that PYTHON can import from here",
        ),
        ("saved.json", "saved.json: is not JSON (", "correct that file"),
    ],
    ids=["missing import", "no module", "no JSON"],
)
def test_a_config_that_cannot_be_loaded(project: Project, source: str, text: str, fix: str) -> None:
    """The fix depends on what is missing."""
    project.write("cfg.py", "import torhc\n")
    project.write("saved.json", "{")
    ((level, subject, says, actual_fix),) = problems(project, source, code=2)
    assert (level, subject) == ("error", "config")
    assert says.startswith(text.replace("FOLDER", str(project.folder)))
    assert re.sub(r"/\S+/python[\d.]*", "PYTHON", actual_fix) == fix


@pytest.mark.parametrize(
    ("key", "value", "fix"),
    [
        ("top", "many", "change the -a arguments"),
        ("topp", "3", "remove -a topp, or give it a known name"),
    ],
)
def test_arguments_that_do_not_fit(tiny: Project, key: str, value: str, fix: str) -> None:
    """`-a` is given to `get_config` as for a run."""
    ((_, subject, _, actual_fix),) = problems(tiny, "tiny.py", "-a", key, value, code=2)
    assert ("config", fix) == (subject, actual_fix)


def test_a_config_that_only_get_config_makes_importable(project: Project) -> None:
    """A target does not call `get_config`, so it does not search the folder added there."""
    project.write("vendor/parts.py", WORK)
    project.write(
        "cfg.py",
        "import sys\n"
        "def get_config(runner):\n"
        "    sys.path.append('vendor')\n"
        "    from parts import WorkConfig\n"
        "    return WorkConfig(root_uri='out')\n",
    )
    ((level, subject, text, fix),) = problems(project, "cfg.py", code=2)
    assert (level, subject) == ("error", "targets")
    assert text == (
        "work cannot be built in a process of its own: cannot import `parts`: "
        "there is no such module"
    )
    assert "PYTHONPATH" in fix
    project.rvrun("run", "local", "cfg.py", code=1)
    project.run("rvrun", "check", "cfg.py", PYTHONPATH=with_path("vendor"))
    project.run("rvrun", "run", "local", "cfg.py", PYTHONPATH=with_path("vendor"))


def with_path(folder: str) -> str:
    """PYTHONPATH with `folder` added, as the fix says."""
    return os.pathsep.join([folder, *filter(None, [os.environ.get("PYTHONPATH")])])


def test_a_pipeline_that_builds_only_here(project: Project) -> None:
    """Each pipeline has a process; if it raises there, its traceback is shown."""
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
        "error    targets   two cannot be built in a process of its own: NameError: " in done.stdout
    )
    assert "ok       targets   each can build its pipeline in its own process" in done.stdout
    assert done.stdout.endswith("\n15 ok, 1 error\n")
    file = project.folder / "cfg.py"
    assert done.stderr.startswith(f'Traceback (most recent call last):\n  File "{file}", line 6')
    assert "NameError: name 'SCENES' is not defined\n" in done.stderr


# The plan


@pytest.mark.parametrize(
    ("words", "text", "fix"),
    [
        (
            ("-s", "0"),
            "--splits 0: the number must be between 1 and 10,000,000",
            "change --splits 0",
        ),
        (
            ("-s", "sum=2"),
            "--splits sum=2: `sum` is not in `split_commands`",
            "change --splits sum=2",
        ),
        (
            ("-s", "kut=2"),
            "unknown command `kut` in --splits kut=2; did",
            "change --splits kut=2 to name an existing command",
        ),
        (("cuts",), "unknown command `cuts`; did you", "select one of: cut, count, sum, show"),
        (
            ("-s", "cut=2"),
            "`count` of pipeline `tiny` needs `cut` aligned",
            "change --splits to give `count` and `cut` the same number",
        ),
    ],
)
def test_a_plan_that_does_not_compile(
    tiny: Project, words: tuple[str, ...], text: str, fix: str
) -> None:
    """Commands and splits are those that would be given to `run`; nothing is rendered."""
    ((level, subject, says, actual_fix),) = problems(tiny, "tiny.py", *words, code=2)
    assert ("error", "plan", fix) == (level, subject, actual_fix)
    assert says.startswith(text)
    assert "files" not in subjects(tiny, "tiny.py", *words, code=2)


def test_selected_commands_are_counted(tiny: Project) -> None:
    """As `rvrun plan` counts them."""
    output = tiny.rvrun("check", "tiny.py", "cut", "sum", "-s", "2").stdout
    assert "ok       plan      tiny: 3 targets in 2 stages\n" in output


def test_a_name_too_long_for_the_file_system(project: Project) -> None:
    """A name may be fine for make and too long for a file; a run fails with it."""
    limit = os.pathconf(project.folder, "PC_NAME_MAX")
    long = "n" * (limit - len(".json"))
    project.write("cfg.py", config(f"return [WorkConfig(root_uri='out', name={long!r})]"))
    assert problems(project, "cfg.py", code=2) == [
        (
            "error",
            "files",
            f"file names must have at most {limit} bytes here, got {long}.json",
            "give the pipeline a shorter `name`",
        )
    ]
    assert "name too long" in project.rvrun("run", "local", "cfg.py", code=2).stderr


# Places


def test_a_foreign_makefile(tiny: Project) -> None:
    """What `run` would refuse to replace is found before it."""
    tiny.write("runs/tiny/Makefile", "all:\n")
    assert problems(tiny, "tiny.py", code=2) == [
        (
            "error",
            "run dir",
            "runs/tiny has a Makefile that rvrun did not write",
            "choose another with --out",
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
                "choose another with --out",
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
    """The process that holds it is named; once it has ended, the directory is free."""
    (finding,) = problems(tiny, "tiny.py", code=2)
    assert finding == (
        "error",
        "run dir",
        f"runs/tiny is in use by another rvrun (process {holder.pid})",
        "wait until it ends, or choose another with --out",
    )
    holder.communicate("\n")
    assert problems(tiny, "tiny.py") == []


def test_two_checks_do_not_block_each_other(tiny: Project) -> None:
    """A check takes a shared lock."""
    tiny.rvrun("run", "local", "tiny.py")
    with open(tiny.folder / "runs/tiny/.lock", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        assert problems(tiny, "tiny.py") == []


@pytest.mark.parametrize(
    ("root", "problem"),
    [
        ("tiny.py", "tiny.py is a file"),
        ("tiny.py/out", "FOLDER/tiny.py is a file"),
        ("/dev/null", "/dev/null is not a directory"),
        pytest.param(
            "/proc/out",
            "cannot write a file in /proc: No such file or directory",
            marks=pytest.mark.skipif(sys.platform != "linux", reason="Linux has /proc"),
        ),
    ],
)
def test_a_root_that_cannot_be_written(tiny: Project, root: str, problem: str) -> None:
    """Writing is tried, as permissions do not tell everything."""
    assert problems(tiny, "tiny.py", "-a", "root_uri", root, code=2) == [
        (
            "error",
            "root_uri",
            f"tiny: {root} cannot be used: {problem.replace('FOLDER', str(tiny.folder))}",
            "change `root_uri` in tiny.py, or make the directory writable",
        )
    ]


def test_a_link_that_leads_nowhere(tiny: Project) -> None:
    """A folder cannot be created in place of the link."""
    (tiny.folder / "out").symlink_to("gone")
    ((_, subject, text, _),) = problems(tiny, "tiny.py", code=2)
    assert ("root_uri", f"tiny: out/tiny cannot be used: {tiny.folder}/out is not a directory") == (
        subject,
        text,
    )


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_root_without_permission(tiny: Project) -> None:
    """The message names the permission."""
    (tiny.folder / "out").mkdir(mode=0o555)
    ((_, subject, text, _),) = problems(tiny, "tiny.py", code=2)
    assert subject == "root_uri"
    assert "you have no permission to read and write " in text


def test_a_root_that_is_not_a_path(project: Project) -> None:
    """A runner on this machine does not check it, and the message says so."""
    project.write("cfg.py", config("return WorkConfig(root_uri='s3://bucket/work')"))
    assert problems(project, "cfg.py") == [
        (
            "warning",
            "root_uri",
            "work: s3://bucket/work is not checked: the pipeline's own code reads and writes s3://",
            "make sure that its commands can access s3:// from here, or use a path",
        )
    ]


def test_a_root_that_would_be_taken_for_a_path(tiny: Project) -> None:
    """A pipeline that does not say that it handles URIs would create a directory `s3:`."""
    assert problems(tiny, "tiny.py", "-a", "root_uri", "s3://bucket/tiny", code=2) == [
        (
            "error",
            "root_uri",
            "`root_uri` of pipeline `tiny` must be a directory for a run on this machine, got "
            "`s3://bucket/tiny`; use a path, or set `handles_uris = True` in `Tiny` if its "
            "commands read and write such URIs",
            "use a path, or set `handles_uris = True` in `Tiny`",
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
    """However it is written, the same place is recognized."""
    named = zip(roots, ("one", "two", "three"), strict=True)
    configs = ", ".join(f"WorkConfig(root_uri={root!r}, name={name!r})" for root, name in named)
    project.write("cfg.py", config(f"return [{configs}]"))
    findings = [f for f in problems(project, "cfg.py") if "not checked" not in f[2]]
    expected = (
        "warning",
        "root_uri",
        f"{shared} share {roots[0]} and may overwrite each other's files",
        f"give each its own, such as {roots[0]}/NAME",
    )
    assert findings == ([expected] if shared else [])


# Output


def test_all_problems_are_reported_together(tiny: Project, bin_folder: pathlib.Path) -> None:
    """One problem does not hide another."""
    tiny.write("runs", "")
    env = {"PATH": str(bin_folder), "RVRUN_JOBS": "x"}
    assert subjects(tiny, "tiny.py", "cuts", "-a", "root_uri", "/dev/null", code=2, **env) == [
        "python",
        "rvrun",
        "runner",
        "make: error",
        "shell",
        "jobs",
        "settings: error",
        "config",
        "plan: error",
        "targets",
        "run dir: error",
        "root_uri: error",
    ]


def test_only_json_goes_to_stdout(project: Project) -> None:
    """Even if the config prints; a finding contains its traceback."""
    project.write("cfg.py", config("print('loading')", "raise RuntimeError('no')"))
    done = project.rvrun("check", "cfg.py", "--json", code=2)
    (finding,) = [f for f in json.loads(done.stdout) if f["level"] == "error"]
    details = finding.pop("details")
    assert done.stderr == "loading\n"
    assert details.endswith("\nRuntimeError: no\n")
    assert finding == {
        "level": "error",
        "subject": "config",
        "text": "`get_configs` of cfg.py raised RuntimeError: no",
        "fix": "change your code where its traceback points",
    }


@pytest.mark.parametrize(("env", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False)])
def test_colours_are_for_terminals(tiny: Project, env: dict[str, str], coloured: bool) -> None:
    """There, levels are coloured unless NO_COLOR is set, and lines are not wrapped."""
    ours, theirs = pty.openpty()
    environment = clean_environment(TERM="xterm", **NO_GPUS, **env)
    process = subprocess.Popen(
        ["rvrun", "check", "tiny.py"], cwd=tiny.folder, env=environment, stdout=theirs
    )
    os.close(theirs)
    output = b""
    while data := _read(ours):
        output += data
    os.close(ours)
    assert process.wait() == 0
    lines = output.decode().replace("\r\n", "\n")
    assert coloured == ("\x1b[32mok     \x1b[0m  python    " in lines)
    plain = re.sub(r"\x1b\[[\d;]*m", "", lines)
    assert ("\x1b" in lines, len(plain.splitlines())) == (coloured, 15)


def _read(descriptor: int) -> bytes:
    """What comes from a terminal; empty when its other side is closed, which is EIO on Linux."""
    try:
        return os.read(descriptor, 4096)
    except OSError:
        return b""
