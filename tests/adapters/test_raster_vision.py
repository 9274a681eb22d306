"""Raster Vision's own pipelines: the same arguments to `rvrun` do the same work.

The files that its runners write are compared with those that rvrun's write. Further tests show that
rvrun's runners do not have the known defects of Raster Vision's.
"""

from __future__ import annotations

import json
import os
import pathlib
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
CHIPS = """
from rastervision.pytorch_backend.pipeline import ChipsConfig

def get_config(runner, root_uri, scenes="a b c d"):
    return ChipsConfig(root_uri=root_uri, scenes=scenes.split())
"""


@attrs.frozen
class Place(Project):
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


def environment(place: Project) -> dict[str, str]:
    """The tests' plugins, and a home folder without settings."""
    (place.folder / "tmp").mkdir(exist_ok=True)
    return {
        "PYTHONPATH": os.pathsep.join(map(str, (LOCAL, PLUGINS, TORCH))),
        "HOME": str(place.folder),
        "TMPDIR": str(place.folder / "tmp"),
    }


@pytest.fixture
def place(tmp_path: pathlib.Path) -> Place:
    """A folder with sources of one config, of two, and of one that writes chips."""
    project = Place(tmp_path)
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
def test_the_same_arguments_write_the_same_files(place: Place, words: tuple[str, ...]) -> None:
    """`rastervision run`, `rvrun run local` and `inprocess`, including the saved config."""
    runs = [("rastervision", "local"), ("rastervision", "inprocess")]
    for program, runner in (*runs, ("rvrun", "local"), ("rvrun", "inprocess")):
        root = f"{program}-{runner}"
        place.run(program, "run", runner, "tiles.py", *words, "-a", "root_uri", root)
    files = [place.files(f"rastervision-{runner}") for runner in ("local", "inprocess")]
    assert "pipeline-config.json" in files[0]
    assert files[0] == files[1] == place.files("rvrun-local") == place.files("rvrun-inprocess")


def test_the_shipped_example_runs(place: Place) -> None:
    """Raster Vision's own example, named as a module, prints the same lines."""
    module = "rastervision.pipeline_example_plugin2.config3"
    words = ("inprocess", module, "-a", "root_uri", "out", "--splits", "2")
    theirs = place.raster_vision("run", *words).stdout
    files = place.files("out")
    ours = place.rvrun("-q", "run", *words).stdout
    assert files == place.files("out")
    assert [line for line in theirs.splitlines() if line.startswith("hola")] == [
        line for line in ours.splitlines() if line.startswith("hola")
    ]


def test_a_saved_config_is_a_config(place: Place) -> None:
    """A config that Raster Vision saved is accepted, and upgraded if its plugin is newer."""
    place.raster_vision("run", "inprocess", "tiles.py", "chip", "-a", "root_uri", "theirs")
    saved = json.loads(place.read("theirs/pipeline-config.json"))
    saved["plugin_versions"]["rastervision.tiles"] = 0
    saved["dataset"]["images"] = saved["dataset"].pop("scenes")
    place.write("old.json", json.dumps(saved))
    assert place.rvrun("run", "local", "old.json", "--splits", "2").returncode == 0
    assert json.loads(place.read("theirs/eval.json")) == {"predictions": 4}
    again = place.rvrun("plan", "runs/old/config/tiles.json", "--splits", "2")
    assert "tiles: 6 targets in 4 stages; all up to date" in again.stdout


def test_one_target_of_a_saved_config(place: Place) -> None:
    """`rvrun run_command` accepts Raster Vision's own saved config, and does not change it."""
    place.raster_vision("run", "inprocess", "tiles.py", "chip", "-a", "root_uri", "out")
    saved = place.read("out/pipeline-config.json")
    place.rvrun("run_command", "out/pipeline-config.json", "train")
    place.rvrun(
        "run_command",
        "out/pipeline-config.json",
        "predict",
        "--split-ind",
        "1",
        "--num-splits",
        "4",
    )
    assert sorted(place.files("out")) == [
        *(f"chip/{scene}.txt" for scene in "abcd"),
        "model.json",
        "pipeline-config.json",
        "predict/b.txt",
    ]
    assert place.read("out/pipeline-config.json") == saved


def test_planning_writes_nothing(place: Place) -> None:
    """`plan`, `check`, `graph` and `diff` write no file, not even the config."""
    (place.folder / "tmp").mkdir()
    before = sorted(place.folder.rglob("*"))
    words = ("tiles.py", "-a", "root_uri", "out")
    for verb in ("plan", "check", "graph"):
        place.rvrun(verb, *words)
    place.rvrun("diff", "tiles.py", *words)
    tmp = place.folder / "tmp"
    assert before == [path for path in sorted(place.folder.rglob("*")) if tmp not in path.parents]


def test_plans_are_the_same_on_each_machine(place: Place) -> None:
    """Rendered files contain neither settings nor plugins that the config does not use."""
    words = ("render", "local", "tiles.py", "-a", "root_uri", "out", "--out")
    place.rvrun(*words, "one", TILES_GREETING="hello")
    place.rvrun(*words, "two", PYTHONPATH=str(PLUGINS))
    one, two = place.files("one"), place.files("two")
    assert one["config/tiles.json"] == two["config/tiles.json"]
    assert one["plan.json"] == two["plan.json"]
    assert json.loads(one["config/tiles.json"])["config"]["plugin_versions"] == {
        "rastervision.pipeline": 0,
        "rastervision.tiles": 1,
    }


def test_sets_are_always_in_the_same_order(place: Place) -> None:
    """Python's order differs between processes, but finished targets remain up to date."""
    words = ("tiles.py", "--splits", "2", "-a", "root_uri", "out")
    place.rvrun("run", "local", *words, PYTHONHASHSEED="1")
    uri = place.folder / "out/pipeline-config.json"
    before = uri.stat()
    assert json.loads(uri.read_text())["dataset"]["groups"]["train"] == ["a", "b", "c"]
    for seed in ("2", "3", "4"):
        place.rvrun("render", "local", *words, PYTHONHASHSEED=seed)
        place.make("-q", "-C", "runs/tiles")
    config = "runs/tiles/config/tiles.json"
    place.rvrun("run_command", config, "eval", PYTHONHASHSEED="5")
    assert uri.stat() == before


def test_settings_of_the_machine_are_saved_with_the_config(place: Place) -> None:
    """As by Raster Vision, for its workers: its settings, and the versions of all plugins."""
    place.rvrun("run", "local", "tiles.py", "chip", "-a", "root_uri", "out", TILES_GREETING="hi")
    saved = json.loads(place.read("out/pipeline-config.json"))
    assert saved["rv_config"] == {"tiles_greeting": "hi"}
    assert "rastervision.pipeline_example_plugin1" in saved["plugin_versions"]


def test_plain_make_saves_the_config_too(place: Place) -> None:
    """Targets save it themselves, so `make` alone is enough."""
    place.rvrun("render", "local", "tiles.py", "-a", "root_uri", "out", "--splits", "2")
    assert not (place.folder / "out").exists()
    place.make("-j2", "-C", "runs/tiles")
    assert json.loads(place.read("out/pipeline-config.json"))["type_hint"] == "tiles.tiles"
    assert json.loads(place.read("out/eval.json")) == {"predictions": 4}


@pytest.mark.parametrize("runner", ["local", "inprocess"])
def test_verbosity_tmpdir_and_profile_reach_targets(place: Place, runner: str) -> None:
    """Raster Vision's own local runner does not pass them on."""
    place.write(".rastervision/mine", "[tiles]\ngreeting=from my profile\n")
    tmpdir = str(place.folder / "my tmp")
    words = ("run", runner, "tiles.py", "-a", "root_uri", "out", "-a", "analyze", "true")
    place.rvrun("-p", "mine", "--tmpdir", tmpdir, "-vv", *words)
    assert json.loads(place.read("out/surroundings.json")) == {
        "verbosity": 3,
        "greeting": "from my profile",
        "tmp_root": tmpdir,
        "tmp_dir": True,
        "tempfile": tmpdir,
    }


def test_a_plugin_in_the_current_folder_is_found(place: Place, tmp_path: pathlib.Path) -> None:
    """As by `python -m rastervision.pipeline.cli`, which searches that folder."""
    (tmp_path / "rastervision").symlink_to(PLUGINS / "rastervision")
    place.rvrun("run", "local", "tiles.py", "chip", "-a", "root_uri", "out", PYTHONPATH=str(TORCH))
    assert len(place.files("out")) == 5


def test_job_queues_and_definitions_are_resources(place: Place) -> None:
    """A stage has those of its command's method, else of its pipeline."""
    place.rvrun("render", "local", "tiles.py", "-a", "root_uri", "out")
    (pipeline,) = json.loads(place.read("runs/tiles/plan.json"))["pipelines"]
    resources = {stage["command"]: stage["resources"] for stage in pipeline["stages"]}
    assert resources == {
        "chip": {"job_queue": "tiles-queue"},
        "train": {"job_queue": "tiles-queue", "job_def": "train-definition"},
        "predict": {"job_queue": "tiles-queue"},
        "eval": {"job_queue": "tiles-queue"},
    }
    assert [stage["gpu"] for stage in pipeline["stages"]] == [False, True, False, False]


def test_diff_names_the_keys_that_changed(place: Place) -> None:
    """Nested ones too, between a config that Raster Vision saved and one that rvrun saved."""
    words = ("-a", "root_uri", "out")
    place.raster_vision("run", "inprocess", "tiles.py", "chip", *words)
    place.rvrun("render", "local", "tiles.py", *words, "-a", "scenes", "a b", "-a", "epochs", "5")
    done = place.rvrun("diff", "out/pipeline-config.json", "runs/tiles/config/tiles.json", code=1)
    assert done.stdout.splitlines()[:4] == [
        "~ tiles  config: epochs 1 → 5",
        "~ tiles  config: dataset.scenes.2 gone: c",
        "~ tiles  config: dataset.scenes.3 gone: d",
        "would run again:",
    ]


def test_explain_and_resume(place: Place) -> None:
    """After a change of the config, targets are stale and `explain` names the changed key."""
    words = ("run", "local", "tiles.py", "-a", "root_uri", "out", "--splits", "2")
    place.rvrun(*words)
    assert "0 targets ran, 6 up to date" in place.rvrun(*words).stderr
    place.rvrun("render", *words[1:], "-a", "epochs", "3")
    explanation = place.rvrun("explain", "tiles/train").stdout
    assert explanation.startswith("tiles/train would run: after chip\n")
    assert "  changed  epochs: 1 → 3\n" in place.rvrun("explain", "tiles/chip").stdout


# Known defects of Raster Vision's own runners.


@pytest.mark.parametrize("root", ["a b", "$(x) ${y} #z", "it's; a:b", "ä&|*?[x]"])
def test_odd_characters_in_the_root(place: Place, root: str) -> None:
    """Its Makefile does not quote them, so that commands and split arguments vanish."""
    place.rvrun("run", "local", "tiles.py", "-a", "root_uri", f"out/{root}", "--splits", "2")
    place.raster_vision("run", "inprocess", "tiles.py", "-a", "root_uri", "plain")
    ours = place.files(f"out/{root}")
    assert {path: text for path, text in ours.items() if path != "pipeline-config.json"} == {
        path: text for path, text in place.files("plain").items() if path != "pipeline-config.json"
    }


@pytest.mark.parametrize("runner", ["local", "inprocess"])
def test_a_root_without_a_plugin_is_refused(place: Place, runner: str) -> None:
    """Raster Vision would create a folder called `s3:` here."""
    words = ("tiles.py", "chip", "-a", "root_uri", "s3://bucket/out")
    done = place.rvrun("run", runner, *words, code=1)
    assert (
        "s3://bucket/out/pipeline-config.json: no Raster Vision plugin for s3:// is installed "
        "here; install one (pip install rastervision-aws-s3)"
    ) in done.stdout + done.stderr
    assert not (place.folder / "s3:").exists()


def test_two_configs_run_in_parallel(place: Place) -> None:
    """It runs them one after the other; here, targets of both run at the same time."""
    words = ("run", "local", "both.py", "-j2", "-a", "root_uri", "out", "-a", "seconds", "0.3")
    place.rvrun(*words)
    spans = {
        name: [
            json.loads(line)["time"]
            for line in place.read(f"runs/both/records/tiles-{name}/chip.1/0.jsonl").splitlines()
        ]
        for name in ("one", "two")
    }
    assert max(start for start, _ in spans.values()) < min(end for _, end in spans.values())
    assert place.files("out/one").keys() == place.files("out/two").keys()


def test_the_second_config_runs_if_the_first_fails(place: Place) -> None:
    """It stops; with `-k`, the other pipeline here runs to its end."""
    place.write("out/one/fail", "")
    words = ("run", "local", "both.py", "-k", "-a", "root_uri", "out", "-a", "fail", "chip")
    place.rvrun(*words, code=1)
    assert "eval.json" in place.files("out/two")
    assert "eval.json" not in place.files("out/one")


def test_equal_roots_are_refused(place: Place) -> None:
    """It lets the second config overwrite the first, which is running."""
    place.write("same.py", CONFIGS.replace("/{name}", ""))
    done = place.rvrun("plan", "same.py", "-a", "root_uri", "out", code=2)
    assert done.stderr == (
        "rvrun: two Raster Vision configs (tiles, tiles): are both saved at "
        "out/pipeline-config.json; give each its own `root_uri`\n"
    )


def test_commands_run_in_the_pipelines_order(place: Place) -> None:
    """It runs them in the order typed, so that `train chip` fails."""
    words = ("run", "local", "tiles.py", "train", "chip", "-a", "root_uri", "out")
    place.raster_vision(*words, code=2)
    place.rvrun(*words)
    assert "model.json" in place.files("out")


def test_an_unknown_command_is_refused(place: Place) -> None:
    """It accepts any name, saves the config, and fails in the target."""
    done = place.rvrun("run", "local", "tiles.py", "trian", "-a", "root_uri", "out", code=2)
    assert done.stderr == (
        "rvrun: unknown command `trian`, did you mean `train`?; known: `chip`, `train`, "
        "`predict`, `eval`\n"
    )
    assert not (place.folder / "out").exists()


def test_the_number_of_parallel_targets_is_limited(place: Place) -> None:
    """It starts all splits at the same time (`make -j`)."""
    words = ("tiles.py", "chip", "--splits", "5", "-a", "root_uri", "out", "-a", "seconds", "0.2")
    place.rvrun("run", "local", *words, "-j2")
    events = []
    for path in (place.folder / "runs/tiles/records/tiles/chip.5").iterdir():
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        events += [(line["time"], 1 if line["event"] == "start" else -1) for line in lines]
    running = [sum(step for _, step in sorted(events)[: n + 1]) for n in range(len(events))]
    assert max(running) == 2


def test_only_the_failed_split_runs_again(place: Place) -> None:
    """It starts from the beginning; here, finished splits are not repeated."""
    words = ("run", "local", "tiles.py", "-k", "--splits", "4", "-a", "root_uri", "out")
    words = (*words, "-a", "fail", "predict c")
    place.write("out/fail", "")
    failed = place.rvrun(*words, code=1)
    assert "predicting c is to fail" in failed.stderr
    (place.folder / "out/fail").unlink()
    done = place.rvrun(*words)
    assert "2 targets ran, 8 up to date" in done.stderr
    assert json.loads(place.read("out/eval.json")) == {"predictions": 4}


def processes_of(place: Project) -> list[psutil.Process]:
    """All processes that work in the project's folder."""
    processes = []
    for process in psutil.process_iter():
        try:
            if process.cwd() == str(place.folder):
                processes.append(process)
        except psutil.Error:
            continue
    return processes


def test_sigterm_leaves_no_process(place: Place) -> None:
    """Its targets continue to run."""
    words = ("tiles.py", "chip", "--splits", "2", "-a", "root_uri", "out", "-a", "seconds", "1000")
    run = subprocess.Popen(
        ["rvrun", "run", "local", *words],
        cwd=place.folder,
        env=clean_environment(**environment(place)),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    config = place.folder / "out" / "pipeline-config.json"
    wait_for(config.exists)
    run.send_signal(signal.SIGTERM)
    run.communicate(timeout=PATIENCE)
    assert run.returncode == 130
    wait_for(lambda: not processes_of(place))


def test_splits_without_an_index_are_refused(place: Place) -> None:
    """With `--num-splits` alone, its worker raises a TypeError."""
    place.rvrun("render", "local", "tiles.py", "-a", "root_uri", "out")
    words = ("run_command", "runs/tiles/config/tiles.json", "chip", "--num-splits", "2")
    done = place.rvrun(*words, code=2)
    assert done.stderr == (
        "rvrun: run_command chip: --num-splits requires --split-ind; give both\n"
    )


# Chips: Raster Vision adds a file with each attempt.


def chips(place: Place, root: str = "out") -> list[str]:
    """The chips in all files in the folder of chips."""
    names = []
    for path in (place.folder / root / "chip").glob("*.zip"):
        names += zipfile.ZipFile(path).namelist()
    return sorted(names)


CHIP = ("chips.py", "-a", "root_uri", "out", "--splits")
ALL = ["a.txt", "b.txt", "c.txt", "d.txt"]


def test_raster_vision_adds_chips_with_each_attempt(place: Place) -> None:
    """The defect that the next tests are about: its second run trains on each chip twice."""
    for _ in range(2):
        place.raster_vision("run", "inprocess", *CHIP, "2")
    assert chips(place) == sorted(2 * ALL)


def test_a_failed_split_leaves_no_chips(place: Place) -> None:
    """A failed attempt writes no chips, and the next attempt writes each of them once."""
    place.write("out/fail-d", "")
    place.rvrun("run", "local", *CHIP, "2", code=1)
    assert chips(place) == ["a.txt", "b.txt"]
    (place.folder / "out/fail-d").unlink()
    place.rvrun("run", "local", *CHIP, "2")
    assert (chips(place), json.loads(place.read("out/model.json"))) == (ALL, ALL)


@pytest.mark.parametrize("runner", ["local", "inprocess"])
def test_chips_of_earlier_attempts_are_replaced(place: Place, runner: str) -> None:
    """Also with a different number of splits, or fewer scenes than splits."""
    for splits, scenes in (("2", "a b c d"), ("2", "a b c d"), ("3", "a b c"), ("3", "a")):
        place.rvrun("run", runner, *CHIP, splits, "-B", "-a", "scenes", scenes)
        assert json.loads(place.read("out/model.json")) == [f"{s}.txt" for s in scenes.split()]


def test_unknown_chips_are_not_removed(place: Place) -> None:
    """The user may want them; the log has a warning that names them."""
    place.raster_vision("run", "inprocess", *CHIP, "1")
    (theirs,) = (place.folder / "out/chip").iterdir()
    place.rvrun("run", "local", *CHIP, "2")
    assert theirs.exists()
    log = place.read("runs/chips/logs/chips/chip.2/0.log")
    assert f"`train` will use them too; remove them if you do not want that: {theirs.name}" in log


# Its own worker, for machines without rvrun.


def test_its_command_line_accepts_argv(place: Place) -> None:
    """Every option exists under that name, and the call runs the target."""
    place.rvrun("run", "local", "tiles.py", "chip", "train", "-a", "root_uri", "out")
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
    place.run(*words)
    assert sorted(path for path in place.files("out") if "predict" in path) == [
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
            "rvrun: Raster Vision config TilesConfig: has no `root_uri`, below which it is "
            "saved; set one",
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
def test_invalid_configs_are_refused(place: Place, config: str, expected: str) -> None:
    """The error says what is wrong with the config."""
    place.write(
        "bad.py",
        "from rastervision.tiles import DatasetConfig, TilesConfig\n"
        "class Mine(TilesConfig):\n    pass\n"
        f"def get_config(runner):\n    return {config}\n",
    )
    done = place.rvrun("plan", "bad.py", code=2)
    assert done.stderr.splitlines()[-1] == expected


def test_a_saved_config_requires_raster_vision(place: Place) -> None:
    """If it is not installed, the error says how to install it."""
    place.write("saved.json", json.dumps({"type_hint": "tiles.tiles", "root_uri": "out"}))
    place.write("rvrun_only/rastervision.py", "raise ModuleNotFoundError(name='rastervision')\n")
    done = place.rvrun("plan", "saved.json", code=2, PYTHONPATH=str(place.folder / "rvrun_only"))
    assert done.stderr == (
        "rvrun: cannot import `rastervision`, which this config requires; install it "
        "(pip install rastervision-pipeline)\n"
    )


def test_a_class_in_the_configs_own_file(place: Place) -> None:
    """Raster Vision's other processes cannot import it; here, targets import the file first."""
    place.write(
        "mine.py",
        "from rastervision.pipeline.config import register_config\n"
        "from rastervision.tiles import TilesConfig\n"
        "@register_config('mine.mine')\n"
        "class MineConfig(TilesConfig):\n    extra: int = 1\n"
        "def get_config(runner, root_uri):\n    return MineConfig(root_uri=root_uri)\n",
    )
    words = ("mine.py", "-a", "root_uri")
    place.raster_vision("run", "inprocess", *words, "theirs")
    place.raster_vision("run", "local", *words, "none", code=2)
    place.rvrun("check", *words, "ours")
    place.rvrun("run", "local", *words, "ours", "--splits", "2")
    assert place.files("theirs") == place.files("ours")


def test_a_pipeline_may_declare_more(place: Place) -> None:
    """A pipeline of Raster Vision's may have the attributes of rvrun's, too."""
    place.write(
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
    done = place.rvrun("render", "local", "more.py", "--splits", "2")
    assert "more/chip has 2 splits for 1 item: 1 will have nothing to do" in done.stderr
    (pipeline,) = json.loads(place.read("runs/more/plan.json"))["pipelines"]
    needs = {s["command"]: [n["command"] for n in s["needs"]] for s in pipeline["stages"]}
    assert needs["eval"] == ["train", "predict"]
    assert pipeline["stages"][-1]["resources"] == {"vcpus": 2, "job_queue": "tiles-queue"}
    assert json.loads(place.read("runs/more/config/more/chip.json")) == {
        "type_hint": "more.more",
        "root_uri": "out",
        "dataset.scenes": ["a", "b", "c", "d"],
    }


def test_several_configs_have_distinct_names(place: Place) -> None:
    """Suffixes are what differs in their roots; numbers, if that cannot be part of a name."""
    plan = place.rvrun("plan", "both.py", "-a", "root_uri", "s3://b/x y").stdout
    assert "tiles-one/chip" in plan
    assert "tiles-two/chip" in plan
    place.write("odd.py", CONFIGS.replace('"one", "two"', '"#", "$"'))
    assert "tiles-2/chip" in place.rvrun("plan", "odd.py", "-a", "root_uri", "out").stdout
