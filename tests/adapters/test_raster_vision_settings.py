"""Raster Vision's settings are the weakest layer."""

from __future__ import annotations

import pathlib

import pytest

from rvrun.adapters.raster_vision import settings as rv_settings
from rvrun.plugins import own_names
from rvrun.runners.batch.settings import BatchSettings
from rvrun.runners.sagemaker.settings import SagemakerSettings
from rvrun.settings import sources
from rvrun.settings.layers import load_settings, options
from rvrun.settings.schema import Settings, all_fields
from rvrun.settings.values import BadSetting

INI = """
attempts = 2
[BATCH]
cpu_job_queue=cpu queue
    cpu_job_def = "cpu:1"
gpu_job_queue=
attempts = 3
unknown = 1
[SAGEMAKER]
role=arn:aws:iam::123456789012:role/rv
use_spot_instances=yes
train_instance_count=2
[PLUGIN]
key = %(value)s [x]
"""


@pytest.fixture
def home(in_folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """An empty home folder, which is also the current one."""
    for name in ("RV_CONFIG", "RV_CONFIG_DIR", "RV_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    for field in all_fields():
        if field.raster_vision:
            monkeypatch.delenv(field.key.upper().replace(".", "_"), raising=False)
    monkeypatch.setenv("HOME", str(in_folder))
    return in_folder


def write(path: pathlib.Path, text: str) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return str(path)


def queue() -> str | None:
    return load_settings().of(BatchSettings).cpu_job_queue


def test_without_files_and_variables_the_defaults_hold(home: pathlib.Path) -> None:
    """Having Raster Vision installed does not change any setting."""
    assert all(option.origin == "default" for option in options())


def test_whether_there_are_any_is_quick_to_see(
    home: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody without such settings pays for loading those of all runners."""
    sections = {field.key.partition(".")[0] for field in all_fields() if field.raster_vision}
    assert sections <= set(own_names())
    monkeypatch.setattr(sources, "_fields_by_key", lambda: pytest.fail("loads all runners"))
    assert load_settings() == Settings()


def test_its_file_is_read(home: pathlib.Path) -> None:
    """Values are converted to the types of rvrun's settings; empty and unknown ones are ignored."""
    write(home / ".rastervision/default", INI)
    batch = load_settings().of(BatchSettings)
    assert (batch.cpu_job_queue, batch.cpu_job_def) == ("cpu queue", "cpu:1")
    assert (batch.gpu_job_queue, batch.attempts) == (None, 3)
    sagemaker = load_settings().of(SagemakerSettings)
    assert sagemaker.role == "arn:aws:iam::123456789012:role/rv"
    assert (sagemaker.use_spot_instances, sagemaker.train_instance_count) == (True, 2)


def test_each_value_has_its_origin(home: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file, the variable, or rvrun's own file, which overrides both."""
    path = write(home / ".rastervision/default", INI)
    monkeypatch.setenv("BATCH_CPU_JOB_DEF", "cpu:2")
    write(home / "rvrun.toml", "[batch]\nattempts = 5\n")
    origins = {option.key: (option.value, option.origin) for option in options()}
    assert origins["batch.cpu_job_queue"] == ("cpu queue", path)
    assert origins["batch.cpu_job_def"] == ("cpu:2", "BATCH_CPU_JOB_DEF")
    assert origins["batch.attempts"] == (5, "rvrun.toml")
    assert origins["batch.gpu_job_queue"] == (None, "default")


def test_the_file_is_found_by_its_rules(
    home: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only one file is read: of RV_CONFIG, RV_CONFIG_DIR, the profile or the current folder."""
    write(home / "here/.rastervision", "[BATCH]\ncpu_job_queue=folder\n")
    monkeypatch.chdir(home / "here")
    assert queue() == "folder"
    write(home / ".rastervision/default", "[BATCH]\ncpu_job_queue=default\n")
    assert queue() == "default"
    write(home / ".rastervision/mine", "[BATCH]\ncpu_job_queue=mine\n")
    monkeypatch.setenv("RV_PROFILE", "mine")
    assert queue() == "mine"
    write(home / "dir/mine", "[BATCH]\ncpu_job_queue=dir\n")
    monkeypatch.setenv("RV_CONFIG_DIR", str(home / "dir"))
    assert queue() == "dir"
    monkeypatch.setenv("RV_CONFIG", write(home / "file", "[BATCH]\ncpu_job_queue=file\n"))
    assert queue() == "file"


def test_a_profile_may_be_only_raster_visions(home: pathlib.Path) -> None:
    """`--profile` names rvrun's profile, Raster Vision's, or both; one of them must exist."""
    write(home / ".rastervision/default", "[BATCH]\ncpu_job_queue=default\n")
    write(home / ".rastervision/mine", "[BATCH]\ncpu_job_queue=mine\n")
    batch = load_settings(profile="mine").of(BatchSettings)
    assert batch.cpu_job_queue == "mine"
    with pytest.raises(BadSetting, match=r"there is no file .* or .*/\.rastervision/other\b"):
        load_settings(profile="other")
    write(home / "no-config/rvrun/other.toml", "[batch]\nattempts = 2\n")
    batch = load_settings(profile="other").of(BatchSettings)
    assert (batch.cpu_job_queue, batch.attempts) == ("default", 2)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            "[BATCH]\nattempts=many\n",
            "`batch.attempts` must be an integer between 1 and 10, got 'many'",
        ),
        (
            "[SAGEMAKER]\nuse_spot_instances=maybe\n",
            "`sagemaker.use_spot_instances` must be true or false, got 'maybe'",
        ),
    ],
)
def test_invalid_values_are_refused(home: pathlib.Path, text: str, problem: str) -> None:
    """The error names the file."""
    path = write(home / ".rastervision/default", text)
    with pytest.raises(BadSetting) as caught:
        load_settings()
    assert str(caught.value) == f"{path}: {problem}"


def test_an_invalid_file_is_refused(home: pathlib.Path) -> None:
    """The error is one line that names the file."""
    path = write(home / ".rastervision/default", "[BATCH\n")
    with pytest.raises(rv_settings.BadFile) as caught:
        load_settings()
    assert str(caught.value).startswith(f"{path}: cannot be read as Raster Vision's settings: ")
    assert "\n" not in str(caught.value)


def test_without_raster_vision_its_settings_are_ignored(
    home: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Variables such as SAGEMAKER_ROLE may then belong to another program."""
    write(home / ".rastervision/default", INI)
    monkeypatch.setenv("SAGEMAKER_ROLE", "mine")
    monkeypatch.setattr(rv_settings, "find_spec", lambda name: None)
    assert all(option.origin == "default" for option in options())
