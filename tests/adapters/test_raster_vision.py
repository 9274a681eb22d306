"""Raster Vision's own pipelines: the same arguments to `rvrun` do the same work.

The files that its runners write are compared with those that rvrun's write. Further tests show that
rvrun's runners do not have the known defects of Raster Vision's.
"""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import signal
import subprocess
import time
import zipfile
from collections.abc import Callable

import attrs
import psutil
import pytest
from rastervision.pipeline.cli import main as cli

from rvrun.adapters.raster_vision.adapter import argv
from tests.conftest import PATIENCE, ROOT, Project, clean_environment
from tests.warm.modules import modules

PLUGINS = ROOT / "tests" / "data" / "raster_vision"
TORCH = ROOT / "tests" / "data" / "raster_vision_torch"
#: Replaces the plugin for S3, which takes long to import.
LOCAL = ROOT / "tests" / "data" / "raster_vision_local"

CONFIG = """
from rastervision.tiles import DatasetConfig, TilesConfig

def get_config(runner, root_uri, epochs=1, seconds=0.0, fail="", analyze=False, scenes="a b c d"):
    return TilesConfig(
        root_uri=root_uri,
        epochs=int(epochs),
        seconds=float(seconds),
        fail=fail,
        analyzers=["surroundings"] if analyze else [],
        dataset=DatasetConfig(scenes=scenes.split()),
    )
"""
CONFIGS = """
from rastervision.tiles import TilesConfig

def get_configs(runner, root_uri, seconds="0", fail=""):
    return [
        TilesConfig(root_uri=f"{root_uri}/{name}", seconds=float(seconds), fail=fail)
        for name in ("one", "two")
    ]
"""
#: As CONFIGS and CONFIG, but each of the first two targets waits until the other one runs, too.
MEETING = """
import os
import pathlib
import time

from rastervision.pipeline.config import register_config
from rastervision.tiles import TilesConfig
from rastervision.tiles.pipeline import Tiles

class Meeting(Tiles):
    def chip(self, split_ind=0, num_splits=1):
        pathlib.Path(f"began-{os.getpid()}").touch()
        deadline = time.monotonic() + 60
        while len(list(pathlib.Path().glob("began-*"))) < 2:
            assert time.monotonic() < deadline, "no other target runs"
            time.sleep(0.02)
        super().chip(split_ind, num_splits)

@register_config("meeting.meeting")
class MeetingConfig(TilesConfig):
    def build(self, tmp_dir):
        return Meeting(self, tmp_dir)

def get_configs(runner, roots):
    return [MeetingConfig(root_uri=root) for root in roots.split()]
"""
CHIPS = """
from rastervision.pytorch_backend.pipeline import ChipsConfig

def get_config(runner, root_uri, scenes="a b c d"):
    return ChipsConfig(root_uri=root_uri, scenes=scenes.split())
"""


@attrs.frozen
class PluginProject(Project):
    """A project whose commands find the tests' plugins of Raster Vision."""

    def run(
        self, *command: str, code: int = 0, cwd: str = ".", **env: str
    ) -> subprocess.CompletedProcess[str]:
        return super().run(*command, code=code, cwd=cwd, **(environment(self) | env))

    def raster_vision(
        self, *words: str, code: int = 0, **env: str
    ) -> subprocess.CompletedProcess[str]:
        return self.run("rastervision", *words, code=code, **env)

    def files(self, root: str) -> dict[str, str]:
        """The files below `root` and their content, except Raster Vision's Makefile."""
        folder = self.folder / root
        return {
            str(path.relative_to(folder)): in_order(path.read_text()).replace(root, "ROOT")
            for path in sorted(folder.rglob("*"))
            if path.is_file() and path.name != "Makefile"
        }

    def log(self, target: str, run: str = "tiles") -> str:
        return self.read(f"runs/{run}/logs/tiles/{target}.log")


def in_order(text: str) -> str:
    """A saved config with its sets sorted, which Raster Vision writes in any order."""
    if '"groups":{' not in text:
        return text
    values = json.loads(text)
    groups = values["dataset"]["groups"]
    values["dataset"]["groups"] = {name: sorted(group) for name, group in groups.items()}
    return json.dumps(values, separators=(",", ":"), ensure_ascii=False)


def environment(project: Project) -> dict[str, str]:
    """The tests' plugins, and a home folder without settings."""
    (project.folder / "tmp").mkdir(exist_ok=True)
    return {
        "PYTHONPATH": os.pathsep.join(map(str, (LOCAL, PLUGINS, TORCH))),
        "HOME": str(project.folder),
        "TMPDIR": str(project.folder / "tmp"),
    }


@pytest.fixture
def project(tmp_path: pathlib.Path) -> PluginProject:
    """A folder with sources of one config, of two, and of one that writes chips."""
    project = PluginProject(tmp_path)
    project.write("tiles.py", CONFIG)
    project.write("both.py", CONFIGS)
    project.write("chips.py", CHIPS)
    return project


def wait_for(condition: Callable[[], object]) -> None:
    """Wait until `condition` holds."""
    until = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("--splits", "5"),
        ("chip", "train", "-s", "3", "-a", "epochs", "2"),
        ("-a", "analyze", "true", "analyze", "chip"),
    ],
    ids=" ".join,
)
@pytest.mark.usefixtures("processes")
def test_the_same_arguments_write_the_same_files(
    project: PluginProject, words: tuple[str, ...]
) -> None:
    """`rastervision run`, `rvrun run local` and `inprocess`, including the saved config."""
    runs = [("rastervision", "local"), ("rastervision", "inprocess")]
    for program, runner in (*runs, ("rvrun", "local"), ("rvrun", "inprocess")):
        root = f"{program}-{runner}"
        out = ("--out", f"runs/{runner}") if program == "rvrun" else ()
        project.run(program, "run", runner, "tiles.py", *words, "-a", "root_uri", root, *out)
    files = [project.files(f"rastervision-{runner}") for runner in ("local", "inprocess")]
    assert "pipeline-config.json" in files[0]
    assert files[0] == files[1] == project.files("rvrun-local") == project.files("rvrun-inprocess")


@pytest.mark.usefixtures("processes")
def test_the_saved_config_has_the_same_bytes(project: PluginProject) -> None:
    """Also of a default of 0 for a float, and of 1e-5, which only Python writes as 1e-05."""
    sets = CONFIG.replace("scenes=scenes.split()", "scenes=scenes.split(), groups={'one': {'a'}}")
    project.write("sets.py", sets)
    words = ("run", "inprocess", "sets.py", "chip", "-a", "root_uri", "out")
    project.raster_vision(*words)
    theirs = project.read("out/pipeline-config.json")
    assert '"nodata_value":0,"size":3,"rates":[' in theirs
    assert "1e-05" not in theirs
    (project.folder / "out/pipeline-config.json").unlink()
    project.rvrun(*words)
    assert project.read("out/pipeline-config.json") == theirs


@pytest.mark.usefixtures("processes")
def test_the_shipped_example_runs(project: PluginProject) -> None:
    """Raster Vision's own example, named as a module, prints the same lines."""
    module = "rastervision.pipeline_example_plugin2.config3"
    words = ("inprocess", module, "-a", "root_uri", "out", "--splits", "2")
    theirs = project.raster_vision("run", *words).stdout
    files = project.files("out")
    ours = project.rvrun("-q", "run", *words).stdout
    assert files == project.files("out")
    assert [line for line in theirs.splitlines() if line.startswith("hola")] == [
        line for line in ours.splitlines() if line.startswith("hola")
    ]


@pytest.mark.usefixtures("processes")
def test_a_saved_config_is_a_config(project: PluginProject) -> None:
    """A config that Raster Vision saved is accepted, and upgraded if its plugin is newer."""
    project.raster_vision("run", "inprocess", "tiles.py", "chip", "-a", "root_uri", "theirs")
    saved = json.loads(project.read("theirs/pipeline-config.json"))
    saved["plugin_versions"]["rastervision.tiles"] = 0
    saved["dataset"]["images"] = saved["dataset"].pop("scenes")
    project.write("old.json", json.dumps(saved))
    assert project.rvrun("run", "local", "old.json", "--splits", "2").returncode == 0
    assert json.loads(project.read("theirs/eval.json")) == {"predictions": 4}
    again = project.rvrun("plan", "runs/old/config/tiles.json", "--splits", "2")
    assert "tiles: 6 targets in 4 stages; all up to date" in again.stdout


@pytest.mark.usefixtures("processes")
def test_one_target_of_a_saved_config(project: PluginProject) -> None:
    """`rvrun run_command` accepts Raster Vision's own saved config, and does not change it."""
    project.raster_vision("run", "inprocess", "tiles.py", "chip", "-a", "root_uri", "out")
    saved = project.read("out/pipeline-config.json")
    project.rvrun("run_command", "out/pipeline-config.json", "train")
    project.rvrun(
        "run_command",
        "out/pipeline-config.json",
        "predict",
        "--split-ind",
        "1",
        "--num-splits",
        "4",
    )
    assert sorted(project.files("out")) == [
        *(f"chip/{scene}.txt" for scene in "abcd"),
        "model.json",
        "pipeline-config.json",
        "predict/b.txt",
    ]
    assert project.read("out/pipeline-config.json") == saved


@pytest.mark.usefixtures("processes")
def test_a_whole_split_command_of_a_saved_config(project: PluginProject) -> None:
    """Without split options, a command runs unsplit, as Raster Vision's own worker runs it."""
    project.raster_vision("run", "inprocess", "tiles.py", "analyze", "-a", "root_uri", "out")
    project.rvrun("run_command", "out/pipeline-config.json", "chip")
    names = [path for path in project.files("out") if path.startswith("chip/")]
    assert names == [f"chip/{scene}.txt" for scene in "abcd"]


@pytest.mark.usefixtures("processes")
def test_planning_writes_nothing(project: PluginProject) -> None:
    """`plan`, `check`, `graph` and `diff` write no file, not even the config."""
    (project.folder / "tmp").mkdir()
    before = sorted(project.folder.rglob("*"))
    words = ("tiles.py", "-a", "root_uri", "out")
    for verb in ("plan", "check", "graph"):
        project.rvrun(verb, *words)
    project.rvrun("diff", "tiles.py", *words)
    tmp = project.folder / "tmp"
    assert before == [path for path in sorted(project.folder.rglob("*")) if tmp not in path.parents]


@pytest.mark.usefixtures("processes")
def test_plans_are_the_same_on_each_machine(project: PluginProject) -> None:
    """Rendered files contain neither settings nor plugins that the config does not use."""
    words = ("render", "local", "tiles.py", "-a", "root_uri", "out", "--out")
    project.rvrun(*words, "one", TILES_GREETING="hello")
    project.rvrun(*words, "two", PYTHONPATH=str(PLUGINS))
    one, two = project.files("one"), project.files("two")
    assert one["config/tiles.json"] == two["config/tiles.json"]
    assert one["plan.json"] == two["plan.json"]
    assert json.loads(one["config/tiles.json"])["config"]["plugin_versions"] == {
        "rastervision.pipeline": 0,
        "rastervision.tiles": 1,
    }


@pytest.mark.usefixtures("processes")
def test_sets_are_always_in_the_same_order(project: PluginProject) -> None:
    """Python's order differs between processes, but finished targets remain up to date."""
    words = ("tiles.py", "--splits", "2", "-a", "root_uri", "out")
    project.rvrun("run", "local", *words, PYTHONHASHSEED="1")
    uri = project.folder / "out/pipeline-config.json"
    before = uri.stat().st_ino, uri.stat().st_mtime_ns
    assert json.loads(uri.read_text())["dataset"]["groups"]["train"] == ["a", "b", "c"]
    for seed in ("2", "3", "4"):
        project.rvrun("render", "local", *words, PYTHONHASHSEED=seed)
        project.make("-q", "-C", "runs/tiles")
    config = "runs/tiles/config/tiles.json"
    project.rvrun("run_command", config, "eval", PYTHONHASHSEED="5")
    assert (uri.stat().st_ino, uri.stat().st_mtime_ns) == before


@pytest.mark.usefixtures("processes")
def test_settings_of_the_machine_are_saved_with_the_config(project: PluginProject) -> None:
    """As by Raster Vision, for its workers: its settings, and the versions of all plugins."""
    project.rvrun("run", "local", "tiles.py", "chip", "-a", "root_uri", "out", TILES_GREETING="hi")
    saved = json.loads(project.read("out/pipeline-config.json"))
    assert saved["rv_config"] == {"tiles_greeting": "hi"}
    assert "rastervision.pipeline_example_plugin1" in saved["plugin_versions"]


@pytest.mark.usefixtures("processes")
def test_plain_make_saves_the_config_too(project: PluginProject) -> None:
    """Targets save it themselves, so `make` alone is enough."""
    project.rvrun("render", "local", "tiles.py", "-a", "root_uri", "out", "--splits", "2")
    assert not (project.folder / "out").exists()
    project.make("-j2", "-C", "runs/tiles")
    assert json.loads(project.read("out/pipeline-config.json"))["type_hint"] == "tiles.tiles"
    assert json.loads(project.read("out/eval.json")) == {"predictions": 4}


@pytest.mark.parametrize("runner", ["local", "inprocess"])
@pytest.mark.usefixtures("processes")
def test_verbosity_tmpdir_and_profile_reach_targets(project: PluginProject, runner: str) -> None:
    """Raster Vision's own local runner does not pass them on."""
    project.write(".rastervision/mine", "[tiles]\ngreeting=from my profile\n")
    tmpdir = str(project.folder / "my tmp")
    words = ("run", runner, "tiles.py", "-a", "root_uri", "out", "-a", "analyze", "true")
    project.rvrun("-p", "mine", "--tmpdir", tmpdir, "-vv", *words)
    assert json.loads(project.read("out/surroundings.json")) == {
        "verbosity": 3,
        "greeting": "from my profile",
        "tmp_root": tmpdir,
        "tmp_dir": True,
        "tempfile": tmpdir,
    }


@pytest.mark.usefixtures("processes")
def test_a_plugin_in_the_current_folder_is_found(
    project: PluginProject, tmp_path: pathlib.Path
) -> None:
    """As by `python -m rastervision.pipeline.cli`, which searches that folder."""
    (tmp_path / "rastervision").symlink_to(PLUGINS / "rastervision")
    project.rvrun(
        "run", "local", "tiles.py", "chip", "-a", "root_uri", "out", PYTHONPATH=str(TORCH)
    )
    assert len(project.files("out")) == 5


@pytest.mark.usefixtures("processes")
def test_job_queues_and_definitions_are_resources(project: PluginProject) -> None:
    """A stage has those of its command's method, else of its pipeline."""
    project.rvrun("render", "local", "tiles.py", "-a", "root_uri", "out")
    (pipeline,) = json.loads(project.read("runs/tiles/plan.json"))["pipelines"]
    resources = {stage["command"]: stage["resources"] for stage in pipeline["stages"]}
    assert resources == {
        "chip": {"job_queue": "tiles-queue"},
        "train": {"job_queue": "tiles-queue", "job_def": "train-definition"},
        "predict": {"job_queue": "tiles-queue"},
        "eval": {"job_queue": "tiles-queue"},
    }
    assert [stage["gpu"] for stage in pipeline["stages"]] == [False, True, False, False]


@pytest.mark.usefixtures("processes")
def test_diff_names_the_keys_that_changed(project: PluginProject) -> None:
    """Nested ones too, between a config that Raster Vision saved and one that rvrun saved."""
    words = ("-a", "root_uri", "out")
    project.raster_vision("run", "inprocess", "tiles.py", "chip", *words)
    project.rvrun("render", "local", "tiles.py", *words, "-a", "scenes", "a b", "-a", "epochs", "5")
    done = project.rvrun("diff", "out/pipeline-config.json", "runs/tiles/config/tiles.json", code=1)
    assert done.stdout.splitlines()[:3] == [
        "~ tiles  config: dataset.scenes a, b, c, d → a, b",
        "~ tiles  config: epochs 1 → 5",
        "would run again:",
    ]


@pytest.mark.usefixtures("processes")
def test_explain_and_resume(project: PluginProject) -> None:
    """After a change of the config, targets are stale and `explain` names the changed key."""
    words = ("run", "local", "tiles.py", "-a", "root_uri", "out", "--splits", "2")
    project.rvrun(*words)
    assert "0 targets ran, 6 up to date" in project.rvrun(*words).stderr
    project.rvrun("render", *words[1:], "-a", "epochs", "3")
    explanation = project.rvrun("explain", "tiles/train").stdout
    assert explanation.startswith("tiles/train would run: after chip\n")
    assert "  changed    epochs: 1 → 3\n" in project.rvrun("explain", "tiles/chip").stdout


# A root that was removed.


@pytest.mark.parametrize(
    ("runner", "root"), [("make", "a b/$(x) #y'z,)"), ("local", "out"), ("inprocess", "out")]
)
@pytest.mark.usefixtures("processes")
def test_nothing_is_done_without_the_root(project: PluginProject, runner: str, root: str) -> None:
    """`plan` and make agree, and then everything runs again."""
    words = ("tiles.py", "-a", "root_uri", root, "--splits", "2")
    project.rvrun("run", "local", *words)
    project.make("-q", "-C", "runs/tiles")
    before = project.files(root)
    shutil.rmtree(project.folder / root)
    assert project.rvrun("plan", *words).stdout.count("root removed") == 4
    assert "would run: root removed" in project.rvrun("explain", "tiles/chip/1").stdout
    project.make("-q", "-C", "runs/tiles", code=1)
    if runner == "make":
        project.make("-j2", "-C", "runs/tiles")
    else:
        assert "6 targets ran" in project.rvrun("run", runner, *words).stderr
    assert project.files(root) == before
    project.make("-q", "-C", "runs/tiles")
    assert "all up to date" in project.rvrun("plan", *words).stdout


@pytest.mark.parametrize("runner", ["make", "local", "inprocess"])
@pytest.mark.usefixtures("processes")
def test_one_stage_does_not_bring_the_others_back(project: PluginProject, runner: str) -> None:
    """The file that it writes below the root again stands for no other stage."""
    needs = "class Free(Tiles):\n    needs = {'eval': []}\n    def eval(self): pass\n"
    project.write(
        "free.py",
        "from rastervision.pipeline.config import register_config\n"
        "from rastervision.tiles import TilesConfig\n"
        f"from rastervision.tiles.pipeline import Tiles\n{needs}"
        "@register_config('free.free')\n"
        "class FreeConfig(TilesConfig):\n"
        "    def build(self, tmp_dir):\n        return Free(self, tmp_dir)\n"
        "def get_config(runner):\n    return FreeConfig(root_uri='out')\n",
    )
    project.rvrun("run", "local", "free.py")
    shutil.rmtree(project.folder / "out")
    if runner == "make":
        project.make("free/chip", "-C", "runs/free")
    else:
        project.rvrun("run", runner, "free.py", "chip")
    assert project.rvrun("plan", "free.py").stdout.count("not done yet") == 3
    project.rvrun("render", "local", "free.py")
    assert project.make("-n", "-C", "runs/free").stdout.count("run_command") == 3


# Known defects of Raster Vision's own runners.


@pytest.mark.parametrize("root", ["a b", "$(x) ${y} #z", "it's; a:b", "ä&|*?[x]"])
@pytest.mark.usefixtures("processes")
def test_odd_characters_in_the_root(project: PluginProject, root: str) -> None:
    """Its Makefile does not quote them, so that commands and split arguments vanish."""
    project.rvrun("run", "local", "tiles.py", "-a", "root_uri", f"out/{root}", "--splits", "2")
    project.raster_vision("run", "inprocess", "tiles.py", "-a", "root_uri", "plain")
    ours = project.files(f"out/{root}")
    assert {path: text for path, text in ours.items() if path != "pipeline-config.json"} == {
        path: text
        for path, text in project.files("plain").items()
        if path != "pipeline-config.json"
    }


@pytest.mark.parametrize("runner", ["local", "inprocess"])
@pytest.mark.usefixtures("processes")
def test_a_root_without_a_plugin_is_refused(project: PluginProject, runner: str) -> None:
    """Raster Vision would create a folder called `s3:` here."""
    words = ("tiles.py", "chip", "-a", "root_uri", "s3://bucket/out")
    done = project.rvrun("run", runner, *words, code=1)
    assert (
        "s3://bucket/out/pipeline-config.json: no Raster Vision plugin for s3:// is installed "
        "here; install one (pip install rastervision-aws-s3)"
    ) in done.stdout + done.stderr
    assert not (project.folder / "s3:").exists()


@pytest.mark.usefixtures("processes")
def test_two_configs_run_in_parallel(project: PluginProject) -> None:
    """It runs them one after the other; here, targets of both run at the same time."""
    project.write("meeting.py", MEETING)
    project.rvrun("run", "local", "meeting.py", "-j2", "-a", "roots", "out/one out/two")
    spans = [
        [json.loads(line)["time"] for line in path.read_text().splitlines()]
        for path in (project.folder / "runs/meeting/records").glob("*/chip.1/0.jsonl")
    ]
    assert len(spans) == 2
    assert max(start for start, _ in spans) <= min(end for _, end in spans)
    assert project.files("out/one").keys() == project.files("out/two").keys()


@pytest.mark.usefixtures("processes")
def test_the_second_config_runs_if_the_first_fails(project: PluginProject) -> None:
    """It stops; with `-k`, the other pipeline here runs to its end."""
    project.write("out/one/fail", "")
    words = ("run", "local", "both.py", "-k", "-a", "root_uri", "out", "-a", "fail", "chip")
    project.rvrun(*words, code=1)
    assert "eval.json" in project.files("out/two")
    assert "eval.json" not in project.files("out/one")


@pytest.mark.usefixtures("processes")
def test_equal_roots_are_refused(project: PluginProject) -> None:
    """It lets the second config overwrite the first, which is running."""
    project.write("same.py", CONFIGS.replace("/{name}", ""))
    done = project.rvrun("plan", "same.py", "-a", "root_uri", "out", code=2)
    assert done.stderr == (
        "rvrun: two Raster Vision configs (tiles, tiles): are both saved at "
        "out/pipeline-config.json; give each its own `root_uri`\n"
    )


@pytest.mark.usefixtures("processes")
def test_commands_run_in_the_pipelines_order(project: PluginProject) -> None:
    """It runs them in the order typed, so that `train chip` fails."""
    words = ("run", "local", "tiles.py", "train", "chip", "-a", "root_uri", "out")
    project.raster_vision(*words, code=2)
    project.rvrun(*words)
    assert "model.json" in project.files("out")


@pytest.mark.usefixtures("processes")
def test_an_unknown_command_is_refused(project: PluginProject) -> None:
    """It accepts any name, saves the config, and fails in the target."""
    done = project.rvrun("run", "local", "tiles.py", "trian", "-a", "root_uri", "out", code=2)
    assert done.stderr == (
        "rvrun: unknown command `trian`; did you mean `train`? Known commands: `chip`, `train`, "
        "`predict`, `eval`\n"
    )
    assert not (project.folder / "out").exists()


@pytest.mark.usefixtures("processes")
def test_the_number_of_parallel_targets_is_limited(project: PluginProject) -> None:
    """It starts all splits at the same time (`make -j`)."""
    project.write("meeting.py", MEETING)
    words = ("meeting.py", "chip", "--splits", "5", "-a", "roots", "out")
    project.rvrun("run", "local", *words, "-j2")
    events = []
    for path in (project.folder / "runs/meeting/records").glob("*/chip.5/*"):
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        events += [(line["time"], 1 if line["event"] == "start" else -1) for line in lines]
    running = [sum(step for _, step in sorted(events)[: n + 1]) for n in range(len(events))]
    assert max(running) == 2


@pytest.mark.usefixtures("processes")
def test_only_the_failed_split_runs_again(project: PluginProject) -> None:
    """It starts from the beginning; here, finished splits are not repeated."""
    arguments = ("-a", "root_uri", "out", "-a", "fail", "predict c")
    words = ("run", "local", "tiles.py", "-k", "--splits", "4", *arguments)
    project.write("out/fail", "")
    failed = project.rvrun(*words, code=1)
    assert "predicting c fails as configured" in failed.stderr
    (project.folder / "out/fail").unlink()
    done = project.rvrun(*words)
    assert "2 targets ran, 8 up to date" in done.stderr
    assert json.loads(project.read("out/eval.json")) == {"predictions": 4}


def processes_of(project: Project) -> list[psutil.Process]:
    """All processes that work in the project's folder."""
    processes = []
    for process in psutil.process_iter():
        try:
            if process.cwd() == str(project.folder):
                processes.append(process)
        except psutil.Error:
            continue
    return processes


@pytest.mark.usefixtures("processes")
def test_sigterm_leaves_no_process(project: PluginProject) -> None:
    """None of its targets continues to run."""
    words = ("tiles.py", "chip", "--splits", "2", "-a", "root_uri", "out", "-a", "seconds", "1000")
    run = subprocess.Popen(
        ["rvrun", "run", "local", *words],
        cwd=project.folder,
        env=clean_environment(**environment(project)),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    config = project.folder / "out" / "pipeline-config.json"
    wait_for(config.exists)
    run.send_signal(signal.SIGTERM)
    run.communicate(timeout=PATIENCE)
    assert run.returncode == 143
    wait_for(lambda: not processes_of(project))


@pytest.mark.usefixtures("processes")
def test_splits_without_an_index_are_refused(project: PluginProject) -> None:
    """With `--num-splits` alone, its worker raises a TypeError."""
    project.rvrun("render", "local", "tiles.py", "-a", "root_uri", "out")
    words = ("run_command", "runs/tiles/config/tiles.json", "chip", "--num-splits", "2")
    done = project.rvrun(*words, code=2)
    assert done.stderr == (
        "rvrun: run_command chip: --num-splits requires --split-ind; give both\n"
    )


# Chips: Raster Vision adds a file with each attempt.


def chips(project: PluginProject, root: str = "out") -> list[str]:
    """The chips in all files in the folder of chips."""
    names = []
    for path in (project.folder / root / "chip").glob("*.zip"):
        names += zipfile.ZipFile(path).namelist()
    return sorted(names)


CHIP = ("chips.py", "-a", "root_uri", "out", "--splits")
ALL = ["a.txt", "b.txt", "c.txt", "d.txt"]


@pytest.mark.usefixtures("processes")
def test_raster_vision_adds_chips_with_each_attempt(project: PluginProject) -> None:
    """The defect that the next tests are about: its second run trains on each chip twice."""
    for _ in range(2):
        project.raster_vision("run", "inprocess", *CHIP, "2")
    assert chips(project) == sorted(2 * ALL)


@pytest.mark.usefixtures("processes")
def test_a_failed_split_leaves_no_chips(project: PluginProject) -> None:
    """A failed attempt writes no chips, and the next attempt writes each of them once."""
    project.write("out/fail-d", "")
    project.rvrun("run", "local", *CHIP, "2", code=1)
    assert chips(project) == ["a.txt", "b.txt"]
    (project.folder / "out/fail-d").unlink()
    project.rvrun("run", "local", *CHIP, "2")
    assert (chips(project), json.loads(project.read("out/model.json"))) == (ALL, ALL)


@pytest.mark.parametrize("runner", ["local", "inprocess"])
@pytest.mark.usefixtures("processes")
def test_chips_of_earlier_attempts_are_replaced(project: PluginProject, runner: str) -> None:
    """Also with a different number of splits, or fewer scenes than splits."""
    for splits, scenes in (("2", "a b c d"), ("2", "a b c d"), ("3", "a b c"), ("3", "a")):
        project.rvrun("run", runner, *CHIP, splits, "-B", "-a", "scenes", scenes)
        assert json.loads(project.read("out/model.json")) == [f"{s}.txt" for s in scenes.split()]


@pytest.mark.usefixtures("processes")
def test_unknown_chips_are_not_removed(project: PluginProject) -> None:
    """The user may want them; the log has a warning that names them."""
    project.raster_vision("run", "inprocess", *CHIP, "1")
    (theirs,) = (project.folder / "out/chip").iterdir()
    project.rvrun("run", "local", *CHIP, "2")
    assert theirs.exists()
    log = project.read("runs/chips/logs/chips/chip.2/0.log")
    assert f"`train` will use them too; remove them if you do not want that: {theirs.name}" in log


@pytest.mark.parametrize("runner", ["local", "inprocess"])
@pytest.mark.usefixtures("processes")
def test_unknown_chips_are_shown_at_the_end(project: PluginProject, runner: str) -> None:
    """Of the run, whether it chips or only trains, and by `check`: both name them."""
    project.raster_vision("run", "inprocess", *CHIP, "1")
    (theirs,) = (project.folder / "out/chip").iterdir()
    unknown = (
        "out/chip contains chips that are not from this run, and `train` will use them too; remove "
        f"them if you do not want that: {theirs.name}"
    )
    for commands in ((), ("train",)):
        done = project.rvrun("run", runner, "chips.py", *commands, *CHIP[1:], "2", "-B")
        assert done.stderr.splitlines()[-2] == f"warning: {unknown}"
    for number in range(9):
        project.write(f"out/chip/{number}.zip", "incomplete")
    failed = project.rvrun("run", runner, "chips.py", "train", *CHIP[1:], "2", "-B", code=1)
    broken = (
        "out/chip contains incomplete zip files, on which `train` will fail; remove them: 0.zip, "
        "1.zip, 2.zip, 3.zip, 4.zip and 4 more"
    )
    assert f"warning: {broken}\nwarning: {unknown}\n" in failed.stderr
    checked = project.rvrun("check", *CHIP, "2").stdout
    assert f"chips: {broken}\n" in checked
    assert f"chips: {unknown}\n" in checked


# Its own worker, for machines without rvrun.


@pytest.mark.usefixtures("processes")
def test_its_command_line_accepts_argv(project: PluginProject) -> None:
    """Every option exists under that name, and the call runs the target."""
    project.rvrun("run", "local", "tiles.py", "chip", "train", "-a", "root_uri", "out")
    words = argv(
        "out/pipeline-config.json",
        "predict",
        split_ind="1",
        num_splits="2",
        runner="inprocess",
        verbosity=2,
    )
    assert words == [
        *("python", "-m", "rastervision.pipeline.cli", "-v", "-v"),
        *("run_command", "out/pipeline-config.json", "predict"),
        *("--split-ind", "1", "--num-splits", "2", "--runner", "inprocess"),
    ]
    project.run(*words)
    assert sorted(path for path in project.files("out") if "predict" in path) == [
        "predict/c.txt",
        "predict/d.txt",
    ]
    options = {o for param in cli.commands["run_command"].params for o in param.opts}
    assert {"--split-ind", "--num-splits", "--runner"} <= options


def test_argv_omits_options_with_defaults() -> None:
    """The shortest call has only the config and the command."""
    assert argv("s3://b/pipeline-config.json", "train") == [
        *("python", "-m", "rastervision.pipeline.cli"),
        *("run_command", "s3://b/pipeline-config.json", "train"),
    ]


# Errors


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (
            "TilesConfig()",
            "rvrun: Raster Vision config TilesConfig: has no `root_uri`, where it is saved; "
            "set one",
        ),
        (
            "TilesConfig(root_uri='out', epochs=-1)",
            "rvrun: updating Raster Vision config TilesConfig raised ConfigError: less than no "
            "epochs",
        ),
        (
            "TilesConfig(root_uri='out', dataset=DatasetConfig(scenes=['bad']))",
            "rvrun: validating Raster Vision config TilesConfig raised ConfigError: there is a bad "
            "scene",
        ),
        (
            "DatasetConfig()",
            "rvrun: Raster Vision config DatasetConfig: is not a PipelineConfig, so it has no "
            "pipeline to run",
        ),
        (
            "Mine(root_uri='out')",
            "rvrun: Raster Vision config Mine: is not registered, so it cannot be saved; decorate "
            "it with @register_config('mine')",
        ),
    ],
)
@pytest.mark.usefixtures("processes")
def test_invalid_configs_are_refused(project: PluginProject, config: str, expected: str) -> None:
    """The error says what is wrong with the config."""
    project.write(
        "bad.py",
        "from rastervision.tiles import DatasetConfig, TilesConfig\n"
        "class Mine(TilesConfig):\n    pass\n"
        f"def get_config(runner):\n    return {config}\n",
    )
    done = project.rvrun("plan", "bad.py", code=2)
    assert done.stderr.splitlines()[-1] == expected


@pytest.mark.usefixtures("processes")
def test_a_saved_config_requires_raster_vision(project: PluginProject) -> None:
    """If it is not installed, the error says how to install it."""
    project.write("saved.json", json.dumps({"type_hint": "tiles.tiles", "root_uri": "out"}))
    project.write("rvrun_only/rastervision.py", "raise ModuleNotFoundError(name='rastervision')\n")
    done = project.rvrun(
        "plan", "saved.json", code=2, PYTHONPATH=str(project.folder / "rvrun_only")
    )
    assert done.stderr == (
        "rvrun: cannot import `rastervision`, which this config requires; install it "
        "(pip install rastervision-pipeline)\n"
    )


@pytest.mark.usefixtures("processes")
def test_a_class_in_the_configs_own_file(project: PluginProject) -> None:
    """Raster Vision's other processes cannot import it; here, targets import the file first."""
    project.write(
        "mine.py",
        "from rastervision.pipeline.config import register_config\n"
        "from rastervision.tiles import TilesConfig\n"
        "@register_config('mine.mine')\n"
        "class MineConfig(TilesConfig):\n    extra: int = 1\n"
        "def get_config(runner, root_uri):\n    return MineConfig(root_uri=root_uri)\n",
    )
    words = ("mine.py", "-a", "root_uri")
    project.raster_vision("run", "inprocess", *words, "theirs")
    project.raster_vision("run", "local", *words, "none", code=2)
    project.rvrun("check", *words, "ours")
    project.rvrun("run", "local", *words, "ours", "--splits", "2")
    assert project.files("theirs") == project.files("ours")


@pytest.mark.usefixtures("processes")
@pytest.mark.parametrize("command", ["chip", "eval"])
def test_what_targets_import_can_be_preloaded(project: PluginProject, command: str) -> None:
    """Also what the plugins' modules import in functions, and the config's own file."""
    project.write(
        "mine.py",
        "from rastervision.pipeline.config import register_config\n"
        "from rastervision.tiles import TilesConfig\n"
        "@register_config('mine.mine')\n"
        "class MineConfig(TilesConfig):\n"
        "    def build(self, tmp_dir):\n"
        "        import colorsys\n"
        "        return super().build(tmp_dir)\n"
        "def get_config(runner, root_uri):\n    return MineConfig(root_uri=root_uri)\n",
    )
    project.rvrun("run", "local", "mine.py", "-a", "root_uri", "out")
    document = json.loads(project.read("runs/mine/config/mine.json"))
    needed = modules(project, document, command)
    assert {"mine", "colorsys", "rastervision.tiles.pipeline"} <= needed
    shutil.rmtree(project.folder / "out")
    # tqdm, which draws Raster Vision's progress bars, imports this one in a method.
    assert needed - modules(project, document) <= {"multiprocessing.synchronize"}
    # Neither the config was saved, nor is there a temporary folder left.
    assert not (project.folder / "out").exists()
    assert os.listdir(project.folder / "tmp") == [".can_touch"]


@pytest.mark.usefixtures("processes")
def test_what_imports_a_withheld_module_is_not_preloaded(project: PluginProject) -> None:
    """Raster Vision ignores any error of `import torch`, but not without leaving a trace."""
    project.write("torch.py", "")
    project.write("sklearn.py", "raise ImportError\n")
    project.write("cv2.py", "")
    project.rvrun("render", "local", "tiles.py", "-a", "root_uri", "out")
    document = json.loads(project.read("runs/tiles/config/tiles.json"))
    assert "torch" in modules(project, document)
    loaded = modules(project, document, without="torch")
    assert {"everett.manager", "click", "pydantic_core"} <= loaded
    assert not {name for name in loaded if name.startswith(("torch", "rastervision."))}


@pytest.mark.usefixtures("processes")
def test_a_pipeline_may_declare_more(project: PluginProject) -> None:
    """A pipeline of Raster Vision's may have the attributes of rvrun's, too."""
    project.write(
        "more.py",
        "from rastervision.pipeline.config import register_config\n"
        "from rastervision.tiles import TilesConfig\n"
        "from rastervision.tiles.pipeline import Tiles\n"
        "import rvrun\n"
        "class More(Tiles):\n"
        "    needs = {'predict': ['chip'], 'eval': ['train', rvrun.aligned('predict')]}\n"
        "    config_keys = {'chip': ['dataset.scenes']}\n"
        "    resources = {'eval': rvrun.Resources(vcpus=2)}\n"
        "    split_commands = ['chip', 'predict', 'eval']\n"
        "    def eval(self, split_ind=0, num_splits=1):\n        pass\n"
        "    def count_items(self, command):\n        return 1\n"
        "@register_config('more.more')\n"
        "class MoreConfig(TilesConfig):\n"
        "    def build(self, tmp_dir):\n        return More(self, tmp_dir)\n"
        "def get_config(runner, epochs=1):\n"
        "    return MoreConfig(root_uri='out', epochs=epochs)\n",
    )
    done = project.rvrun("render", "local", "more.py", "--splits", "2")
    assert "more/chip has 2 splits for 1 item: 1 will have nothing to do" in done.stderr
    (pipeline,) = json.loads(project.read("runs/more/plan.json"))["pipelines"]
    needs = {s["command"]: [n["command"] for n in s["needs"]] for s in pipeline["stages"]}
    assert needs["eval"] == ["train", "predict"]
    assert pipeline["stages"][-1]["resources"] == {"vcpus": 2, "job_queue": "tiles-queue"}
    assert json.loads(project.read("runs/more/config/more/chip.json")) == {
        "type_hint": "more.more",
        "root_uri": "out",
        "dataset.scenes": ["a", "b", "c", "d"],
    }


@pytest.mark.usefixtures("processes")
def test_several_configs_have_distinct_names(project: PluginProject) -> None:
    """Suffixes are what differs in their roots; numbers, if that cannot be part of a name."""
    plan = project.rvrun("plan", "both.py", "-a", "root_uri", "s3://b/x y").stdout
    assert "tiles-one/chip" in plan
    assert "tiles-two/chip" in plan
    project.write("odd.py", CONFIGS.replace('"one", "two"', '"#", "$"'))
    assert "tiles-2/chip" in project.rvrun("plan", "odd.py", "-a", "root_uri", "out").stdout
