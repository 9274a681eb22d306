from __future__ import annotations

import pathlib

import pytest

from rvrun.errors import UnknownName
from rvrun.settings.schema import (
    BadSetting,
    BatchCommandSettings,
    LocalSettings,
    SagemakerCommandSettings,
    SagemakerSettings,
    Settings,
    fields_of,
    load_settings,
    options,
)

KNOWN = "known: `local.jobs`, `local.gpus`, `local.gpu_slots`, `local.gpu_locks`"
SECTIONS = "known: `templates`, `local`, `aws`, `batch`, `sagemaker`"


@pytest.fixture(autouse=True)
def folder(in_folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """The current folder, with that of the profiles beside it."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(in_folder / "home"))
    here = in_folder / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    return here


def write(path: pathlib.Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def refusal(**flags: object) -> str:
    with pytest.raises(BadSetting) as caught:
        load_settings({key.replace("__", "."): value for key, value in flags.items()})
    return str(caught.value)


def unknown() -> str:
    with pytest.raises(UnknownName) as caught:
        load_settings()
    return str(caught.value)


def test_nothing_is_set_at_first() -> None:
    """Without files, variables and flags there are the defaults."""
    assert Settings(templates=None, local=LocalSettings()) == load_settings()
    assert {option.origin for option in options()} == {"default"}


def test_each_layer_goes_over_the_next(
    folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Flags over environment over project over profile over defaults, key by key."""
    found = []

    def note() -> None:
        option = next(option for option in options(flags) if option.key == "local.jobs")
        found.append((load_settings(flags).local.jobs, option.value, option.origin))

    flags: dict[str, object] = {"local.jobs": None}
    note()
    profile = folder.parent / "home" / "rvrun" / "default.toml"
    write(profile, "templates = 'mine'\n[local]\njobs = 1\n")
    note()
    write(folder / "rvrun.toml", "[local]\njobs = 2\ngpu_slots = 5\n")
    note()
    monkeypatch.setenv("RVRUN_LOCAL_JOBS", "3")
    note()
    flags["local.jobs"] = 4
    note()
    expected = [
        (None, None, "default"),
        (1, 1, str(profile)),
        (2, 2, "rvrun.toml"),
        (3, 3, "RVRUN_LOCAL_JOBS"),
        (4, 4, "the command line"),
    ]
    assert expected == found
    whole = Settings(templates="mine", local=LocalSettings(jobs=4, gpu_slots=5))
    assert whole == load_settings(flags)


def test_every_setting_is_shown_with_its_variable() -> None:
    """`options` tells names, variables and helps of all settings; a table of tables has none."""
    found = {option.key: option for option in options()}
    assert len(found) == len(options())
    assert found["local.gpu_slots"].variable == "RVRUN_LOCAL_GPU_SLOTS"
    assert found["batch.cpu_job_queue"].variable == "RVRUN_BATCH_CPU_JOB_QUEUE"
    assert [key for key, option in found.items() if not option.variable] == [
        "batch.commands",
        "sagemaker.commands",
    ]
    assert all(option.help for option in found.values())


def test_the_environment_sets_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable for each setting; those that are rvrun's own are none."""
    for name, value in {
        "RVRUN_TEMPLATES": "a {b} $c",
        "RVRUN_LOCAL_JOBS": "4",
        "RVRUN_LOCAL_GPUS": "0,GPU-8932f937",
        "RVRUN_LOCAL_GPU_SLOTS": "6",
        "RVRUN_LOCAL_GPU_LOCKS": "/locks",
        "RVRUN_RUN_DIR": "anything",
        "RVRUN_LOGS": "1",
        "RVRUN_EVENTS": "3",
        "RVRUN_PROFILE": "",
    }.items():
        monkeypatch.setenv(name, value)
    local = LocalSettings(jobs=4, gpus=("0", "GPU-8932f937"), gpu_slots=6, gpu_locks="/locks")
    assert Settings(templates="a {b} $c", local=local) == load_settings()


@pytest.mark.parametrize(
    ("text", "gpus"),
    [("0", ("0",)), ("0, 1", ("0", "1")), ("0,1,", ("0", "1")), ("", ())],
)
def test_gpus_are_listed_as_cuda_reads_them(
    text: str, gpus: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Blanks around commas and empty names are dropped; an empty list is none at all."""
    monkeypatch.setenv("RVRUN_LOCAL_GPUS", text)
    assert gpus == load_settings().local.gpus


def test_a_file_sets_everything(folder: pathlib.Path) -> None:
    """All settings as TOML has them; indices of GPUs may be numbers."""
    write(
        folder / "rvrun.toml",
        "templates = 't'\n[local]\njobs = 4\ngpus = [0, 'GPU-1']\ngpu_slots = 6\ngpu_locks = 'l'\n",
    )
    local = LocalSettings(jobs=4, gpus=("0", "GPU-1"), gpu_slots=6, gpu_locks="l")
    assert Settings(templates="t", local=local) == load_settings()


def test_an_unknown_key_in_a_file_is_told(folder: pathlib.Path) -> None:
    """With the file, the nearest key and all that are known."""
    file = folder / "rvrun.toml"
    write(file, "[local]\njob = 4\n")
    expected = f"unknown setting `local.job` in {file}, did you mean `local.jobs`?; {KNOWN}"
    assert expected == unknown()
    write(file, "jobz = 4\n")
    assert f"unknown setting `jobz` in {file}; {SECTIONS}" == unknown()
    write(file, "local = 4\n")
    assert unknown().startswith(f"unknown setting `local` in {file}")


def test_an_unknown_section_is_told_even_if_empty(folder: pathlib.Path) -> None:
    """A misspelt section is an error before anything stands in it; a known one is not."""
    write(folder / "rvrun.toml", "[local]\n")
    assert Settings() == load_settings()
    write(folder / "rvrun.toml", "[lcal]\n")
    assert unknown().startswith(f"unknown setting `lcal` in {folder / 'rvrun.toml'}")


def test_an_unknown_key_in_the_profile_is_told(folder: pathlib.Path) -> None:
    """Profiles are checked like other files."""
    file = folder.parent / "home" / "rvrun" / "default.toml"
    write(file, "template = 'x'\n")
    expected = f"unknown setting `template` in {file}, did you mean `templates`?; {SECTIONS}"
    assert expected == unknown()


def test_an_unknown_variable_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the nearest variable and all that are known of that section."""
    monkeypatch.setenv("RVRUN_LOCAL_JOB", "4")
    expected = (
        "unknown environment variable `RVRUN_LOCAL_JOB`, did you mean `RVRUN_LOCAL_JOBS`?; "
        "known: `RVRUN_LOCAL_JOBS`, `RVRUN_LOCAL_GPUS`, "
        "`RVRUN_LOCAL_GPU_SLOTS`, `RVRUN_LOCAL_GPU_LOCKS`"
    )
    assert expected == unknown()


NUMBER = "give a whole number of at least 1"


@pytest.mark.parametrize("text", ["0", "-1", "x", "1.5", ""])
def test_a_bad_variable_is_named(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The origin of a bad value is told, with what would do."""
    monkeypatch.setenv("RVRUN_LOCAL_JOBS", text)
    assert f"RVRUN_LOCAL_JOBS: `local.jobs` cannot be {text!r}: {NUMBER}" == refusal()


@pytest.mark.parametrize(
    ("line", "key", "value", "mend"),
    [
        ("jobs = 0", "local.jobs", 0, NUMBER),
        ("jobs = 'x'", "local.jobs", "x", NUMBER),
        ("jobs = 4.5", "local.jobs", 4.5, NUMBER),
        ("jobs = true", "local.jobs", True, NUMBER),
        ("gpu_slots = -1", "local.gpu_slots", -1, NUMBER),
        ("gpu_slots = [1]", "local.gpu_slots", [1], NUMBER),
        ("gpus = 4", "local.gpus", 4, "give a list of texts"),
        ("gpus = [['0']]", "local.gpus", [["0"]], "give a list of texts"),
        ("gpu_locks = ['a']", "local.gpu_locks", ["a"], "give a text"),
        ("gpu_locks = 4", "local.gpu_locks", 4, "give a text"),
    ],
)
def test_a_bad_value_in_a_file_is_named(
    line: str, key: str, value: object, mend: str, folder: pathlib.Path
) -> None:
    """File, key and value are told; nothing is coerced."""
    write(folder / "rvrun.toml", f"[local]\n{line}\n")
    assert f"rvrun.toml: `{key}` cannot be {value!r}: {mend}" == refusal()


def test_a_bad_flag_is_named() -> None:
    """So is a bad value from the command line."""
    assert f"the command line: `local.jobs` cannot be 0: {NUMBER}" == refusal(local__jobs=0)


def test_a_bad_value_is_told_though_a_better_one_is_over_it(folder: pathlib.Path) -> None:
    """A file is wrong whatever the command line says."""
    write(folder / "rvrun.toml", "templates = 'x'\n[local]\njobs = 0\n")
    assert f"rvrun.toml: `local.jobs` cannot be 0: {NUMBER}" == refusal(local__jobs=4)


def test_pyproject_has_a_section(folder: pathlib.Path) -> None:
    """`[tool.rvrun]` stands for rvrun.toml, and is named in errors."""
    file = folder / "pyproject.toml"
    write(
        file, "[tool.rvrun]\ntemplates = 't'\n[tool.rvrun.local]\njobs = 2\n[tool.other]\nx = 1\n"
    )
    assert Settings(templates="t", local=LocalSettings(jobs=2)) == load_settings()
    assert {"default", "pyproject.toml"} == {option.origin for option in options()}
    write(file, "[tool.rvrun.local]\njob = 2\n")
    place = f"{file} [tool.rvrun]"
    expected = f"unknown setting `local.job` in {place}, did you mean `local.jobs`?; {KNOWN}"
    assert expected == unknown()


def test_rvrun_toml_goes_before_pyproject(folder: pathlib.Path) -> None:
    """In one folder only rvrun.toml is read."""
    write(folder / "pyproject.toml", "[tool.rvrun.local]\njobs = 2\n")
    write(folder / "rvrun.toml", "templates = 't'\n")
    assert Settings(templates="t") == load_settings()


def test_the_nearest_folder_upwards_counts(
    folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Settings of a folder hold in those below it, up to one with its own."""
    below = folder / "a" / "b"
    below.mkdir(parents=True)
    monkeypatch.chdir(below)
    write(folder / "rvrun.toml", "[local]\njobs = 1\n")
    assert (1, str(folder / "rvrun.toml")) == (options()[1].value, options()[1].origin)
    # One that does not speak of rvrun is passed by.
    write(folder / "a" / "pyproject.toml", "[tool.other]\nx = 1\n")
    assert load_settings().local.jobs == 1
    write(folder / "a" / "pyproject.toml", "[tool.rvrun]\n")
    assert None is load_settings().local.jobs
    write(below / "rvrun.toml", "[local]\njobs = 3\n")
    assert load_settings().local.jobs == 3


def test_a_profile_is_chosen_by_name(folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By argument before variable before `default`; one that is not there is an error."""
    home = folder.parent / "home" / "rvrun"
    for jobs, name in enumerate(("default", "work", "play"), start=1):
        write(home / f"{name}.toml", f"[local]\njobs = {jobs}\n")
    assert load_settings().local.jobs == 1
    monkeypatch.setenv("RVRUN_PROFILE", "work")
    assert load_settings().local.jobs == 2
    assert load_settings(profile="play").local.jobs == 3
    monkeypatch.setenv("RVRUN_PROFILE", "gone")
    monkeypatch.setenv("RV_CONFIG_DIR", "/nowhere")
    assert f"profile `gone`: there is no file {home / 'gone.toml'} nor /nowhere/gone" == refusal()


def test_profiles_are_in_the_home_without_xdg(
    folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without XDG_CONFIG_HOME it is ~/.config."""
    monkeypatch.delenv("XDG_CONFIG_HOME")
    monkeypatch.setenv("HOME", str(folder))
    write(folder / ".config" / "rvrun" / "default.toml", "[local]\njobs = 8\n")
    assert load_settings().local.jobs == 8


@pytest.mark.parametrize("name", ["rvrun.toml", "pyproject.toml"])
def test_broken_toml_is_told(name: str, folder: pathlib.Path) -> None:
    """With file and place."""
    write(folder / name, "[local\n")
    expected = (
        f"{folder / name}: cannot be read: "
        "Expected ']' at the end of a table declaration (at line 1, column 7)"
    )
    assert expected == refusal()


def test_a_file_that_is_no_text_is_told(folder: pathlib.Path) -> None:
    """So is what is not UTF-8."""
    (folder / "rvrun.toml").write_bytes(b"\xff")
    assert refusal().startswith(f"{folder / 'rvrun.toml'}: cannot be read: 'utf-8' codec")


@pytest.mark.parametrize("text", ["tool = 3\n", "[tool]\nrvrun = 3\n"])
def test_a_section_that_is_none_is_told(text: str, folder: pathlib.Path) -> None:
    """`tool.rvrun` must be a section where there is one; without it a file is not rvrun's."""
    write(folder / "pyproject.toml", text)
    if "rvrun" in text:
        expected = f"{folder / 'pyproject.toml'}: `tool.rvrun` cannot be 3: write a section"
        assert expected == refusal()
    else:
        assert Settings() == load_settings()


BATCH = """
[batch]
cpu_job_queue = "cpu"
attempts = 3
retry = "spot"
scheduling_priority = 0
[batch.tags]
team = "maps"
[batch.commands.train]
vcpus = 8
[batch.commands."*/predict"]
job_queue = "gpus"
tags = {stage = "predict"}
"""


def test_tables_are_read(folder: pathlib.Path) -> None:
    """A table of texts, and one of settings for each glob, in the order of the file."""
    write(folder / "rvrun.toml", BATCH)
    batch = load_settings().batch
    assert (
        batch.cpu_job_queue,
        batch.attempts,
        batch.retry,
        batch.scheduling_priority,
    ) == ("cpu", 3, "spot", 0)
    assert batch.tags == {"team": "maps"}
    predict = BatchCommandSettings(job_queue="gpus", tags={"stage": "predict"})
    assert {"train": BatchCommandSettings(vcpus=8), "*/predict": predict} == batch.commands
    assert list(batch.commands) == ["train", "*/predict"]


def test_tables_are_merged_key_by_key(
    folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A layer adds to what weaker ones say of a table, and their origins are all told."""
    profile = folder.parent / "home" / "rvrun" / "default.toml"
    write(
        profile,
        "[batch.tags]\nteam = 'x'\nowner = 'me'\n[batch.commands.train]\nvcpus = 2\ngpus = 1\n",
    )
    write(folder / "rvrun.toml", BATCH)
    monkeypatch.setenv("RVRUN_BATCH_TAGS", "run=night, owner=you")
    batch = load_settings().batch
    assert batch.tags == {"team": "maps", "owner": "you", "run": "night"}
    assert BatchCommandSettings(vcpus=8, gpus=1) == batch.commands["train"]
    origins = {option.key: option.origin for option in options()}
    assert f"RVRUN_BATCH_TAGS, rvrun.toml, {profile}" == origins["batch.tags"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("attempts = 11", "`batch.attempts` cannot be 11: give a whole number from 1 to 10"),
        ("timeout_seconds = 9", "`batch.timeout_seconds` cannot be 9: give a whole number of at "),
        ("retry = 'all'", "`batch.retry` cannot be 'all': give one of any, spot"),
        ("tags = 3", "`batch.tags` cannot be 3: give a table of texts"),
        ("tags = {a = 1}", "`batch.tags` cannot be {'a': 1}: give a table of texts"),
        ("commands = 3", "`batch.commands` cannot be 3: write [batch.commands.NAME]"),
        ("commands.train = 3", "`batch.commands` cannot be {'train': 3}: write [batch.comma"),
        ("commands.train.vcpus = 0", '`batch.commands."train".vcpus` cannot be 0: give a whole'),
    ],
)
def test_bad_values_of_tables_are_named(text: str, told: str, folder: pathlib.Path) -> None:
    """Place and value are told, with what would do."""
    write(folder / "rvrun.toml", f"[batch]\n{text}\n")
    assert refusal().startswith(f"rvrun.toml: {told}")


def test_an_unknown_key_of_a_glob_is_told(folder: pathlib.Path) -> None:
    """With the place, and the nearest one."""
    write(folder / "rvrun.toml", "[batch.commands.train]\nvcpu = 3\n")
    place = 'rvrun.toml [batch.commands."train"]'
    assert unknown().startswith(f"unknown setting `vcpu` in {place}, did you mean `vcpus`?; known:")


def test_a_bad_table_in_a_variable_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is no list of pairs."""
    monkeypatch.setenv("RVRUN_BATCH_TAGS", "night")
    assert refusal() == "RVRUN_BATCH_TAGS: `batch.tags` cannot be 'night': give a table of texts"


def test_commands_on_sagemaker_can_say_what_the_section_says() -> None:
    """What [sagemaker.commands.GLOB] has, [sagemaker] has, but for its image and machine."""
    section = {field.key for field in fields_of(SagemakerSettings)}
    own = {field.key for field in fields_of(SagemakerCommandSettings)}
    assert own - section == {"image", "instance_type"}


def test_sagemaker_sections(folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Raster Vision's names, in the file and in the environment; tables by glob."""
    write(
        folder / "rvrun.toml",
        "[sagemaker]\nuse_spot_instances = true\nsplit_by = 'instances'\n"
        "[sagemaker.commands.predict]\nuse_spot_instances = false\nvolume_size = 100\n",
    )
    monkeypatch.setenv("RVRUN_SAGEMAKER_ROLE", "arn:aws:iam::123456789012:role/r")
    found = load_settings().sagemaker
    assert found.role == "arn:aws:iam::123456789012:role/r"
    assert (found.use_spot_instances, found.split_by) == (True, "instances")
    predict = SagemakerCommandSettings(use_spot_instances=False, volume_size=100)
    assert {"predict": predict} == found.commands
