"""Rendered scripts: their exact bytes, which setting wins, and what is refused."""

from __future__ import annotations

import pathlib
import re
import subprocess
import sys
from collections.abc import Callable

import pytest

from rvrun.prepare import Request, prepare
from rvrun.render.quote import Unquotable, for_shell
from rvrun.runners.problems import Unfit
from rvrun.settings.overrides import NoMatch

PIPELINE = """
import rvrun

class SmallConfig(rvrun.PipelineConfig):
    def build(self):
        return Small(self)

class Small(rvrun.Pipeline):
    commands = ("analyze", "chip", "predict", "sum")
    split_commands = ("chip", "predict")
    gpu_commands = ("predict",)
    needs = {"predict": [rvrun.aligned("chip")], "sum": ["analyze", "predict"]}
    resources = {"sum": rvrun.Resources(vcpus=2, memory_mib=500, timeout_seconds=90)}

    def analyze(self): pass
    def chip(self, split_ind, num_splits): pass
    def predict(self, split_ind, num_splits): pass
    def sum(self): pass

def get_config(runner, root_uri="out"):
    return SmallConfig(root_uri=root_uri)
"""
EVERYTHING = """
[slurm]
partition = "cpu"
gpu_partition = "gpu"
account = "lab"
qos = "normal"
constraint = "avx2|avx512"
time = "2:00:00"
cpus = 2
memory_mib = 4000
gpus = 1
max_running = 8
sbatch = ["--exclude=node7", "--mail-type=FAIL"]
modules = ["python/3.12", "gdal"]
prologue = ["source .venv/bin/activate"]
rvrun = "python -m rvrun"
max_array_size = 20
signal_seconds = 120

[slurm.environment]
GDAL_CACHEMAX = "512"
TITLE = "it's $5"

[slurm.commands."chip"]
pack = 4
parallel = 2
attempts = 3

[slurm.commands."predict"]
pack = 4
parallel = 2
container = "images/torch.sif"
sbatch = ["--exclusive"]
"""


def rendered(folder: pathlib.Path, settings: str = "", **request: object) -> dict[str, str]:
    """What the runner adds to the run directory, without the Makefile."""
    # Other tests have imported theirs.
    for name in ("small", "other"):
        sys.modules.pop(name, None)
    (folder / "small.py").write_text(PIPELINE, encoding="utf-8")
    (folder / "rvrun.toml").write_text(settings, encoding="utf-8")
    own = {"config": "small.py", "runner": "slurm", "splits": ("5",), **request}
    files = prepare(Request(**own)).files  # type: ignore[arg-type]
    return {path: text for path, text in files.items() if path.startswith("slurm/")}


def options(script: str) -> list[str]:
    return re.findall(r"^#SBATCH (.*)", script, re.MULTILINE)


def in_one_text(files: dict[str, str]) -> str:
    return "".join(f"==> {path}\n{text}\n" for path, text in files.items())


def test_the_defaults(in_folder: pathlib.Path, golden: Callable[[str, str], None]) -> None:
    """Scripts of a person who sets nothing."""
    golden("plain.slurm.txt", in_one_text(rendered(in_folder)))


def test_everything(in_folder: pathlib.Path, golden: Callable[[str, str], None]) -> None:
    """All settings; 100 splits in two arrays."""
    golden("all.slurm.txt", in_one_text(rendered(in_folder, EVERYTHING, splits=("100",))))


@pytest.mark.usefixtures("processes")
def test_scripts_are_valid_shell(in_folder: pathlib.Path) -> None:
    """For the shells that run them."""
    for path, text in rendered(in_folder, EVERYTHING, splits=("100",)).items():
        if path.endswith(".sh"):
            shell = text.partition("\n")[0].removeprefix("#!")
            subprocess.run([shell, "-n"], input=text, text=True, check=True)


def test_which_setting_wins(in_folder: pathlib.Path) -> None:
    """[slurm], then the command's resources, then sections of globs, the last one first."""
    settings = '[slurm]\ncpus = 8\ntime = "60"\npartition = "a"\n'
    globs = '[slurm.commands."su*"]\ntime = "10"\n[slurm.commands."small/sum"]\npartition = "b"\n'
    files = rendered(in_folder, settings + globs)
    analyze, total = (
        options(files[f"slurm/{n}-small-{c}.sh"]) for n, c in ((1, "analyze"), (4, "sum"))
    )
    assert {"--partition=a", "--cpus-per-task=8", "--time=60"} <= set(analyze)
    assert {"--partition=b", "--cpus-per-task=2", "--time=10", "--mem=500M"} <= set(total)


@pytest.mark.parametrize(
    ("settings", "time"),
    [
        # 4 x 90 s, the SIGTERM 60 s before the limit and up to 60 s earlier, and 60 s to start.
        ("", "0:09:00"),
        ("signal_seconds = 600\n", "0:18:00"),
        ('time = "10"\n', "0:09:00"),
        ('[slurm.commands."chip"]\ntime = "10"\n', "10"),
    ],
)
@pytest.mark.parametrize("section", ["[slurm]", '[slurm.commands."ch*"]'])
def test_limits_of_targets_become_those_of_tasks(
    in_folder: pathlib.Path, section: str, settings: str, time: str
) -> None:
    """A task that runs eight splits, two of them in parallel, takes as long as four."""
    source = PIPELINE.replace('{"sum": ', '{"chip": ')
    (in_folder / "other.py").write_text(source, encoding="utf-8")
    packing = "pack = 8\nparallel = 2\n"
    toml = (
        f"[slurm]\n{packing}{settings}"
        if section == "[slurm]"
        else f"[slurm]\n{settings}{section}\n{packing}"
    )
    files = rendered(in_folder, toml, config="other.py", splits=("20",))
    own = options(files["slurm/2-small-chip.sh"])
    assert {f"--time={time}", "--cpus-per-task=4", "--mem=1000M", "--array=0-2"} <= set(own)


def test_retries_of_targets_take_time(in_folder: pathlib.Path) -> None:
    """Each attempt may take as long as the limit."""
    source = PIPELINE.replace("timeout_seconds=90", "timeout_seconds=90, retries=2")
    (in_folder / "other.py").write_text(source, encoding="utf-8")
    files = rendered(in_folder, config="other.py")
    assert "--time=0:08:00" in options(files["slurm/4-small-sum.sh"])


def test_a_job_requests_what_its_splits_can_use(in_folder: pathlib.Path) -> None:
    """A command that is not split, or has few splits, gets no more than it can use."""
    settings = "[slurm]\npack = 16\nparallel = 4\ncpus = 2\nmemory_mib = 1000\ngpus = 1\n"
    files = rendered(in_folder, settings, splits=("3",))
    analyze, predict = (
        options(files[f"slurm/{n}.sh"]) for n in ("1-small-analyze", "3-small-predict")
    )
    assert {"--cpus-per-task=2", "--mem=1000M"} <= set(analyze)
    assert {"--cpus-per-task=6", "--mem=3000M", "--gres=gpu:3", "--array=0"} <= set(predict)
    assert " -j1 " in files["slurm/1-small-analyze.sh"]
    assert " -j3 " in files["slurm/3-small-predict.sh"]


@pytest.mark.parametrize(
    ("settings", "launcher"),
    [
        ("", ""),
        ('container = "a.sif"', 'apptainer exec --bind "$PWD" --pwd "$PWD" docker://lab/tool:1 '),
        (
            'container = "a.sif"\n[slurm.commands.sum]\ncontainer = "b.sif"',
            'apptainer exec --bind "$PWD" --pwd "$PWD" b.sif ',
        ),
        (
            'container = "a.sqsh"\ncontainer_runtime = "pyxis"',
            'srun --cpus-per-task="$SLURM_CPUS_PER_TASK" --container-image=lab/tool:1 '
            '--container-mounts="$PWD:$PWD" --container-workdir="$PWD" ',
        ),
        (
            'container = "a"\ncontainer_runtime = "pyxis"\n'
            '[slurm.commands.sum]\ncontainer = "images/b.sqsh"',
            'srun --cpus-per-task="$SLURM_CPUS_PER_TASK" --container-image=./images/b.sqsh '
            '--container-mounts="$PWD:$PWD" --container-workdir="$PWD" ',
        ),
    ],
)
def test_the_image_of_a_command(in_folder: pathlib.Path, settings: str, launcher: str) -> None:
    """It replaces the container of [slurm], but does not introduce one."""
    source = PIPELINE.replace("vcpus=2", 'image="lab/tool:1"')
    (in_folder / "other.py").write_text(source, encoding="utf-8")
    files = rendered(in_folder, f"[slurm]\n{settings}\n", config="other.py")
    assert f'\n{launcher}make -C "$out"' in files["slurm/4-small-sum.sh"]


@pytest.mark.parametrize(
    ("image", "name"),
    [
        ("nvcr.io/nvidia/pytorch:25.05-py3", "nvcr.io#nvidia/pytorch:25.05-py3"),
        ("localhost:5000/tool", "localhost:5000#tool"),
        ("lab/tool:1.2", "lab/tool:1.2"),
        ("nvcr.io#nvidia/pytorch", "nvcr.io#nvidia/pytorch"),
        ("docker://lab/tool", "docker://lab/tool"),
        ("/images/b", "/images/b"),
    ],
)
def test_images_of_registries_under_pyxis(in_folder: pathlib.Path, image: str, name: str) -> None:
    """It writes the host of a registry in a way of its own."""
    settings = f'[slurm]\ncontainer = "{image}"\ncontainer_runtime = "pyxis"\n'
    script = rendered(in_folder, settings)["slurm/1-small-analyze.sh"]
    assert re.findall(r"--container-image=(\S+)", script) == [for_shell(name)]


def test_the_run_directory_is_quoted(in_folder: pathlib.Path) -> None:
    """For sbatch, for bash, and for make."""
    files = rendered(in_folder, out="a b$c%d")
    assert '--output="a b$c%%d/logs/slurm/small-chip-%A_%a.out"' in files["slurm/2-small-chip.sh"]
    assert "out='a b$c%d'\n" in files["slurm/2-small-chip.sh"]
    files = rendered(in_folder, out="a\"b'c#d")
    assert '--output="a\\"b\'c#d/logs/slurm/small-chip-%A_%a.out"' in files["slurm/2-small-chip.sh"]
    with pytest.raises(Unquotable):
        rendered(in_folder, out="a\nb")
    with pytest.raises(Unfit, match="the run directory must not have backslashes"):
        rendered(in_folder, out="a\\b")


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        (
            'time = "2h"',
            "`time` must be minutes, HOURS:MINUTES:SECONDS or DAYS-HOURS:MINUTES:SECONDS, got "
            "'2h'; correct `slurm.time`",
        ),
        ('time = "0:00"', "`time` must be more than 0, got '0:00'; correct `slurm.time`"),
        (
            'time = "1"',
            "`time` must be more than `signal_seconds`, 60, because jobs get SIGTERM that long "
            "before their limit, got '1'; raise `slurm.time`, or lower `slurm.signal_seconds`",
        ),
        ('constraint = ""', "`constraint` must not be empty; correct or remove `slurm.constraint`"),
        (
            'gres = "gpu:1 --array=0-9"',
            "`gres` must not have spaces or `#`, got 'gpu:1 --array=0-9'; correct `slurm.gres`",
        ),
        (
            'sbatch = ["--nice=5 --arr=0-9"]',
            "`sbatch` must not have `--array`, which rvrun sets itself, got '--nice=5 --arr=0-9'; "
            "remove it from `slurm.sbatch`",
        ),
        (
            'sbatch = ["-M other"]',
            "`sbatch` must not have `--clusters`, because all commands of Slurm must look at the "
            "same cluster, got '-M other'; set SLURM_CLUSTERS where you run rvrun instead",
        ),
        ('partition = "a b"', "`partition` must be a name, got 'a b'; correct `slurm.partition`"),
        (
            "constraint = 'a\"b'",
            "`constraint` must not have quotes, `$` or backslashes, got 'a\"b'",
        ),
        (
            "parallel = 2",
            "`parallel` must be at most `pack`, 1, got 2; set `slurm.pack`, or lower "
            "`slurm.parallel`",
        ),
        (
            'sbatch = ["exclusive"]',
            "each of `sbatch` must be an option such as `--exclude=node7`, got 'exclusive'; "
            "correct `slurm.sbatch`",
        ),
        (
            'sbatch = ["--array=0-9"]',
            "`sbatch` must not have `--array`, which rvrun sets itself, got '--array=0-9'; remove "
            "it from `slurm.sbatch`",
        ),
        (
            'sbatch = ["-J x"]',
            "`sbatch` must not have `--job-name`, which rvrun sets itself, got '-J x'; remove it "
            "from `slurm.sbatch`",
        ),
        (
            'environment = { SLURM_JOB_ID = "1" }',
            "environment variable names must not begin with SLURM_, got `SLURM_JOB_ID`, which "
            "Slurm sets itself; rename it",
        ),
        (
            'environment = { DB_PASSWORD = "hunter2" }',
            "environment variable `DB_PASSWORD` looks like a secret, which everybody who can read "
            "the run directory can read; set it in `slurm.prologue` from a file that only you can "
            "read, or add its name to `slurm.not_secret` if it is not one",
        ),
    ],
    ids=lambda value: value if "=" in value else "",
)
def test_refused_settings(in_folder: pathlib.Path, settings: str, problem: str) -> None:
    """All stages with the same problem are one line."""
    with pytest.raises(Unfit) as caught:
        rendered(in_folder, f"[slurm]\n{settings}\n")
    first, *lines = str(caught.value).split("\n  ")
    assert first.startswith("Slurm would not accept this plan, 1 problem:")
    assert [line.partition(": ")[2] for line in lines] == [problem]


def test_names_that_accounting_can_have(in_folder: pathlib.Path) -> None:
    """Jobs are found by their names; those of retries are longer."""
    rendered(in_folder, name="x" * 212)
    with pytest.raises(Unfit, match="at most 255 characters, got 256 in a run named `x"):
        rendered(in_folder, name="x" * 213)


def test_a_glob_without_a_command(in_folder: pathlib.Path) -> None:
    """Probably a typing error."""
    with pytest.raises(NoMatch, match=r'\[slurm.commands."chop"\] matches no command'):
        rendered(in_folder, "[slurm.commands.chop]\npack = 4\n")
