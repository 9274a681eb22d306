"""Settings from every source, in layers, validated and shown with their origin."""

from __future__ import annotations

import pathlib
from typing import Any

import pytest

from rvrun.errors import UnknownName
from rvrun.inputs import CannotRead
from rvrun.runners.batch.settings import BatchCommandSettings, BatchSettings
from rvrun.runners.sagemaker.settings import SagemakerCommandSettings, SagemakerSettings
from rvrun.runners.slurm.settings import SlurmSettings
from rvrun.settings.layers import load_settings, options
from rvrun.settings.schema import MachineSettings, Settings, fields_of, key_of
from rvrun.settings.values import BadSetting

KNOWN = (
    "Known settings: `local.jobs`, `local.gpus`, `local.gpu_slots`, `local.gpu_locks`, "
    "`local.vcpus`, `local.memory_mib`, `local.warm`, `local.import_after_fork`"
)
SECTIONS = (
    "`templates`, `imports`, `code`, `code_packages`, `aws`, `prices`, `estimates`, `batch`, "
    "`local`, `sagemaker`, `slurm`"
)


@pytest.fixture(autouse=True)
def folder(in_folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """The current folder, with that of the profiles beside it."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(in_folder / "home"))
    here = in_folder / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    return here


def machine(**values: object) -> MachineSettings:
    """`[local]` with these values."""
    return MachineSettings(**values)  # type: ignore[arg-type]


def expected_settings(templates: str | None = None, **values: object) -> Settings:
    """All settings, with these values of `[local]`."""
    sections: dict[str, Any] = {"local": machine(**values), "batch": BatchSettings()}
    if templates is None and not values:
        # Where nothing is set, no runner is loaded for its section.
        return Settings()
    return Settings(
        templates=templates,
        runners={**sections, "sagemaker": SagemakerSettings(), "slurm": SlurmSettings()},
    )


def jobs(*args: object, **kwargs: object) -> int | None:
    """The setting `local.jobs` in force."""
    return load_settings(*args, **kwargs).of(MachineSettings).jobs  # type: ignore[arg-type]


def write(path: pathlib.Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def refusal(**flags: object) -> str:
    with pytest.raises((BadSetting, CannotRead)) as caught:
        load_settings({key.replace("__", "."): value for key, value in flags.items()})
    return str(caught.value)


def unknown() -> str:
    with pytest.raises(UnknownName) as caught:
        load_settings()
    return str(caught.value)


def test_defaults() -> None:
    """Without files, variables and flags there are the defaults."""
    assert load_settings() == expected_settings()
    assert {option.origin for option in options()} == {"default"}


def test_each_layer_overrides_the_next(
    folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Flags override the environment, that the project, that the profile, key by key."""
    observed = []

    def note() -> None:
        option = next(option for option in options(flags) if option.key == "local.jobs")
        observed.append((jobs(flags), option.value, option.origin))

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
    assert observed == expected
    assert load_settings(flags) == expected_settings("mine", jobs=4, gpu_slots=5)


def test_every_setting_is_shown_with_its_variable() -> None:
    """`options` lists all settings; only tables of tables have no variable."""
    by_key = {option.key: option for option in options()}
    assert len(by_key) == len(options())
    assert by_key["local.gpu_slots"].variable == "RVRUN_LOCAL_GPU_SLOTS"
    assert by_key["batch.cpu_job_queue"].variable == "RVRUN_BATCH_CPU_JOB_QUEUE"
    assert [key for key, option in by_key.items() if not option.variable] == [
        "batch.commands",
        "sagemaker.commands",
        "slurm.commands",
    ]
    assert all(option.help for option in by_key.values())


def test_the_environment_sets_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each setting has a variable; rvrun's internal variables are not settings."""
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
    assert load_settings() == expected_settings(
        "a {b} $c", jobs=4, gpus=("0", "GPU-8932f937"), gpu_slots=6, gpu_locks="/locks"
    )


@pytest.mark.parametrize(
    ("text", "gpus"),
    [("0", ("0",)), ("0, 1", ("0", "1")), ("0,1,", ("0", "1")), ("", ())],
)
def test_gpus_are_listed_as_cuda_reads_them(
    text: str, gpus: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Blanks around commas and empty names are dropped."""
    monkeypatch.setenv("RVRUN_LOCAL_GPUS", text)
    assert load_settings().of(MachineSettings).gpus == gpus


def test_a_file_sets_everything(folder: pathlib.Path) -> None:
    """All settings in TOML; indices of GPUs may be integers."""
    write(
        folder / "rvrun.toml",
        "templates = 't'\n[local]\njobs = 4\ngpus = [0, 'GPU-1']\ngpu_slots = 6\ngpu_locks = 'l'\n",
    )
    assert load_settings() == expected_settings(
        "t", jobs=4, gpus=("0", "GPU-1"), gpu_slots=6, gpu_locks="l"
    )


def test_an_unknown_key_in_a_file_is_named(folder: pathlib.Path) -> None:
    """With the file, the nearest key and all valid keys."""
    file = folder / "rvrun.toml"
    write(file, "[local]\njob = 4\n")
    expected = f"unknown setting `local.job` in {file}; did you mean `local.jobs`? {KNOWN}"
    assert expected == unknown()
    write(file, "jobz = 4\n")
    assert f"unknown setting `jobz` in {file}; known settings: {SECTIONS}" == unknown()
    write(file, "local = 4\n")
    assert unknown().startswith(f"unknown setting `local` in {file}")


def test_an_unknown_section_is_named_even_if_empty(folder: pathlib.Path) -> None:
    """A misspelt section is an error even without keys; a valid one is not."""
    write(folder / "rvrun.toml", "[local]\n")
    assert load_settings() == expected_settings()
    write(folder / "rvrun.toml", "[lcal]\n")
    assert unknown().startswith(f"unknown setting `lcal` in {folder / 'rvrun.toml'}")


def test_an_unknown_key_in_the_profile_is_named(folder: pathlib.Path) -> None:
    """Profiles are validated like other files."""
    file = folder.parent / "home" / "rvrun" / "default.toml"
    write(file, "template = 'x'\n")
    problem = f"unknown setting `template` in {file}"
    expected = f"{problem}; did you mean `templates`? Known settings: {SECTIONS}"
    assert expected == unknown()


def test_an_unknown_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the nearest variable and all variables of that section."""
    monkeypatch.setenv("RVRUN_LOCAL_JOB", "4")
    expected = (
        "unknown environment variable `RVRUN_LOCAL_JOB`; did you mean `RVRUN_LOCAL_JOBS`? "
        "Known environment variables: `RVRUN_LOCAL_JOBS`, `RVRUN_LOCAL_GPUS`, "
        "`RVRUN_LOCAL_GPU_SLOTS`, `RVRUN_LOCAL_GPU_LOCKS`, `RVRUN_LOCAL_VCPUS`, "
        "`RVRUN_LOCAL_MEMORY_MIB`, `RVRUN_LOCAL_WARM`, "
        "`RVRUN_LOCAL_IMPORT_AFTER_FORK`"
    )
    assert expected == unknown()


NUMBER = "an integer between 1 and 100000"


@pytest.mark.parametrize("text", ["0", "-1", "x", "1.5", ""])
def test_a_bad_variable_is_named(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message has the origin, the rule and the value."""
    monkeypatch.setenv("RVRUN_LOCAL_JOBS", text)
    assert f"RVRUN_LOCAL_JOBS: `local.jobs` must be {NUMBER}, got {text!r}" == refusal()


@pytest.mark.parametrize(
    ("line", "key", "value", "rule"),
    [
        ("jobs = 0", "local.jobs", 0, NUMBER),
        ("jobs = 'x'", "local.jobs", "x", NUMBER),
        ("jobs = 4.5", "local.jobs", 4.5, NUMBER),
        ("jobs = true", "local.jobs", True, NUMBER),
        ("gpu_slots = -1", "local.gpu_slots", -1, NUMBER),
        ("gpu_slots = [1]", "local.gpu_slots", [1], NUMBER),
        ("gpus = 4", "local.gpus", 4, "a list of strings"),
        ("gpus = [['0']]", "local.gpus", [["0"]], "a list of strings"),
        ("gpu_locks = ['a']", "local.gpu_locks", ["a"], "a string"),
        ("gpu_locks = 4", "local.gpu_locks", 4, "a string"),
    ],
)
def test_a_bad_value_in_a_file_is_named(
    line: str, key: str, value: object, rule: str, folder: pathlib.Path
) -> None:
    """The message has file, key, rule and value; nothing is coerced."""
    write(folder / "rvrun.toml", f"[local]\n{line}\n")
    assert f"rvrun.toml: `{key}` must be {rule}, got {value!r}" == refusal()


def test_a_bad_flag_is_named() -> None:
    """So is a bad value from the command line."""
    assert f"the command line: `local.jobs` must be {NUMBER}, got 0" == refusal(local__jobs=0)


def test_a_bad_value_is_named_though_a_better_one_is_over_it(folder: pathlib.Path) -> None:
    """An invalid file is an error even if the command line overrides it."""
    write(folder / "rvrun.toml", "templates = 'x'\n[local]\njobs = 0\n")
    assert f"rvrun.toml: `local.jobs` must be {NUMBER}, got 0" == refusal(local__jobs=4)


def test_pyproject_has_a_section(folder: pathlib.Path) -> None:
    """`[tool.rvrun]` replaces rvrun.toml, and errors name it."""
    file = folder / "pyproject.toml"
    write(
        file, "[tool.rvrun]\ntemplates = 't'\n[tool.rvrun.local]\njobs = 2\n[tool.other]\nx = 1\n"
    )
    assert load_settings() == expected_settings("t", jobs=2)
    assert {"default", "pyproject.toml"} == {option.origin for option in options()}
    write(file, "[tool.rvrun.local]\njob = 2\n")
    place = f"{file} [tool.rvrun]"
    expected = f"unknown setting `local.job` in {place}; did you mean `local.jobs`? {KNOWN}"
    assert expected == unknown()


def test_rvrun_toml_hides_pyproject(folder: pathlib.Path) -> None:
    """In one folder only rvrun.toml is read."""
    write(folder / "pyproject.toml", "[tool.rvrun.local]\njobs = 2\n")
    write(folder / "rvrun.toml", "templates = 't'\n")
    assert load_settings() == expected_settings("t")


def test_the_nearest_folder_upwards_is_used(
    folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Settings of a folder apply below it, up to a folder with its own."""
    below = folder / "a" / "b"
    below.mkdir(parents=True)
    monkeypatch.chdir(below)
    write(folder / "rvrun.toml", "[local]\njobs = 1\n")
    option = next(option for option in options() if option.key == "local.jobs")
    assert (option.value, option.origin) == (1, str(folder / "rvrun.toml"))
    # A file without a section for rvrun is skipped.
    write(folder / "a" / "pyproject.toml", "[tool.other]\nx = 1\n")
    assert jobs() == 1
    write(folder / "a" / "pyproject.toml", "[tool.rvrun]\n")
    assert jobs() is None
    write(below / "rvrun.toml", "[local]\njobs = 3\n")
    assert jobs() == 3


def test_a_profile_is_chosen_by_name(folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An argument overrides the variable, and that `default`; a missing profile is an error."""
    home = folder.parent / "home" / "rvrun"
    for number, name in enumerate(("default", "work", "play"), start=1):
        write(home / f"{name}.toml", f"[local]\njobs = {number}\n")
    assert jobs() == 1
    monkeypatch.setenv("RVRUN_PROFILE", "work")
    assert jobs() == 2
    assert jobs(profile="play") == 3
    monkeypatch.setenv("RVRUN_PROFILE", "gone")
    monkeypatch.setenv("RV_CONFIG_DIR", "/nowhere")
    assert refusal() == f"profile `gone`: there is no file {home / 'gone.toml'} or /nowhere/gone"


def test_profiles_are_in_the_home_without_xdg(
    folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without XDG_CONFIG_HOME it is ~/.config."""
    monkeypatch.delenv("XDG_CONFIG_HOME")
    monkeypatch.setenv("HOME", str(folder))
    write(folder / ".config" / "rvrun" / "default.toml", "[local]\njobs = 8\n")
    assert jobs() == 8


@pytest.mark.parametrize("name", ["rvrun.toml", "pyproject.toml"])
def test_broken_toml_is_named(name: str, folder: pathlib.Path) -> None:
    """With the file and the place in it."""
    write(folder / name, "[local\n")
    expected = (
        f"{folder / name}: is not TOML "
        "(Expected ']' at the end of a table declaration (at line 1, column 7)); correct that file"
    )
    assert expected == refusal()


def test_a_file_that_is_not_text_is_named(folder: pathlib.Path) -> None:
    """Files must be UTF-8."""
    (folder / "rvrun.toml").write_bytes(b"\xff")
    assert refusal() == (
        f"{folder / 'rvrun.toml'}: is not UTF-8 (byte 0xff at offset 0); correct that file"
    )


@pytest.mark.parametrize("text", ["tool = 3\n", "[tool]\nrvrun = 3\n"])
def test_a_section_must_be_a_table(text: str, folder: pathlib.Path) -> None:
    """A file without `tool.rvrun` is not for rvrun."""
    write(folder / "pyproject.toml", text)
    if "rvrun" in text:
        expected = f"{folder / 'pyproject.toml'}: `tool.rvrun` must be a table, got 3"
        assert expected == refusal()
    else:
        assert load_settings() == expected_settings()


TABLES = "tables, written as [batch.commands.NAME]"
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
    """A table of strings, and one of settings per glob, in the order of the file."""
    write(folder / "rvrun.toml", BATCH)
    batch = load_settings().of(BatchSettings)
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
    """A layer adds to the tables of weaker ones, and all their origins are shown."""
    profile = folder.parent / "home" / "rvrun" / "default.toml"
    write(
        profile,
        "[batch.tags]\nteam = 'x'\nowner = 'me'\n[batch.commands.train]\nvcpus = 2\ngpus = 1\n",
    )
    write(folder / "rvrun.toml", BATCH)
    monkeypatch.setenv("RVRUN_BATCH_TAGS", "run=night, owner=you")
    batch = load_settings().of(BatchSettings)
    assert batch.tags == {"team": "maps", "owner": "you", "run": "night"}
    assert BatchCommandSettings(vcpus=8, gpus=1) == batch.commands["train"]
    origins = {option.key: option.origin for option in options()}
    assert f"RVRUN_BATCH_TAGS, rvrun.toml, {profile}" == origins["batch.tags"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("attempts = 11", "`batch.attempts` must be an integer between 1 and 10, got 11"),
        ("timeout_seconds = 9", "`batch.timeout_seconds` must be an integer of at least 60, got 9"),
        ("retry = 'all'", "`batch.retry` must be one of any, spot, got 'all'"),
        ("tags = 3", "`batch.tags` must be a table of strings, got 3"),
        ("tags = {a = 1}", "`batch.tags` must be a table of strings, got {'a': 1}"),
        ("commands = 3", f"`batch.commands` must be {TABLES}, got 3"),
        ("commands.train = 3", f"`batch.commands` must be {TABLES}, got {{'train': '***'}}"),
        (
            "commands.train.vcpus = 0",
            '`batch.commands."train".vcpus` must be an integer of at least 1, got 0',
        ),
    ],
)
def test_bad_values_of_tables_are_named(text: str, message: str, folder: pathlib.Path) -> None:
    """The message has the place, the rule and the value."""
    write(folder / "rvrun.toml", f"[batch]\n{text}\n")
    assert refusal() == f"rvrun.toml: {message}"


def test_an_unknown_key_of_a_glob_is_named(folder: pathlib.Path) -> None:
    """With the place, and the nearest key."""
    write(folder / "rvrun.toml", "[batch.commands.train]\nvcpu = 3\n")
    place = 'rvrun.toml [batch.commands."train"]'
    assert unknown().startswith(
        f"unknown setting `vcpu` in {place}; did you mean `vcpus`? Known settings:"
    )


def test_a_bad_table_in_a_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """A table in a variable must be a list of pairs."""
    monkeypatch.setenv("RVRUN_BATCH_TAGS", "night")
    assert refusal() == "RVRUN_BATCH_TAGS: `batch.tags` must be a table of strings, got 'night'"


def test_settings_of_commands_on_sagemaker_are_those_of_the_section() -> None:
    """[sagemaker] has all settings of [sagemaker.commands.GLOB] except image and instance type."""
    section = {field.key for field in fields_of(SagemakerSettings)}
    own = {field.key for field in fields_of(SagemakerCommandSettings)}
    assert own - section == {"image", "instance_type"}


def test_sagemaker_sections(folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the file and in the environment; tables by glob."""
    write(
        folder / "rvrun.toml",
        "[sagemaker]\nuse_spot_instances = true\nsplit_by = 'instances'\n"
        "[sagemaker.commands.predict]\nuse_spot_instances = false\nvolume_size = 100\n",
    )
    monkeypatch.setenv("RVRUN_SAGEMAKER_ROLE", "arn:aws:iam::123456789012:role/r")
    section = load_settings().of(SagemakerSettings)
    assert section.role == "arn:aws:iam::123456789012:role/r"
    assert (section.use_spot_instances, section.split_by) == (True, "instances")
    predict = SagemakerCommandSettings(use_spot_instances=False, volume_size=100)
    assert section.commands == {"predict": predict}


def test_a_runner_names_the_keys_of_its_section() -> None:
    """Code that sets a flag knows the class, not the runner's name."""
    assert key_of(MachineSettings, "jobs") == "local.jobs"
    assert key_of(BatchSettings, "attempts") == "batch.attempts"


def test_a_section_that_no_runner_declares_has_its_defaults() -> None:
    """As in a Settings that was not loaded."""
    assert Settings().of(MachineSettings) == MachineSettings()
