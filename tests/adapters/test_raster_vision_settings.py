"""Raster Vision's settings as the weakest layer."""

from __future__ import annotations

import pathlib

import pytest

from rvrun.adapters.raster_vision import settings as rv_settings
from rvrun.settings.schema import BadSetting, Settings, load_settings, options

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
    """An empty home, the current folder."""
    for name in ("RV_CONFIG", "RV_CONFIG_DIR", "RV_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    for section, keys in rv_settings.KEYS.items():
        for key in keys:
            monkeypatch.delenv(f"{section}_{key}".upper(), raising=False)
    monkeypatch.setenv("HOME", str(in_folder))
    return in_folder


def write(path: pathlib.Path, text: str) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return str(path)


def queue() -> str | None:
    return load_settings().batch.cpu_job_queue


def test_nothing_there(home: pathlib.Path) -> None:
    """Without files and variables of its, there is nothing to see of Raster Vision."""
    assert load_settings() == Settings()


def test_its_file_is_understood(home: pathlib.Path) -> None:
    """Known keys, each of its kind; what is empty or not known says nothing."""
    write(home / ".rastervision/default", INI)
    settings = load_settings()
    assert (settings.batch.cpu_job_queue, settings.batch.cpu_job_def) == ("cpu queue", "cpu:1")
    assert (settings.batch.gpu_job_queue, settings.batch.attempts) == (None, 3)
    sagemaker = settings.sagemaker
    assert sagemaker.role == "arn:aws:iam::123456789012:role/rv"
    assert (sagemaker.use_spot_instances, sagemaker.train_instance_count) == (True, 2)


def test_each_value_tells_its_origin(home: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file, the variable, or what of rvrun's own goes before them."""
    path = write(home / ".rastervision/default", INI)
    monkeypatch.setenv("BATCH_CPU_JOB_DEF", "cpu:2")
    write(home / "rvrun.toml", "[batch]\nattempts = 5\n")
    found = {option.key: (option.value, option.origin) for option in options()}
    assert found["batch.cpu_job_queue"] == ("cpu queue", path)
    assert found["batch.cpu_job_def"] == ("cpu:2", "BATCH_CPU_JOB_DEF")
    assert found["batch.attempts"] == (5, "rvrun.toml")
    assert found["batch.gpu_job_queue"] == (None, "default")


def test_the_file_is_found_by_its_rules(
    home: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The current folder's, the profile's, that of RV_CONFIG_DIR, that of RV_CONFIG; one alone."""
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


def test_a_profile_may_be_its_alone(home: pathlib.Path) -> None:
    """`--profile` names rvrun's profile, Raster Vision's, or both; one of them must be there."""
    write(home / ".rastervision/default", "[BATCH]\ncpu_job_queue=default\n")
    write(home / ".rastervision/mine", "[BATCH]\ncpu_job_queue=mine\n")
    assert load_settings(profile="mine").batch.cpu_job_queue == "mine"
    with pytest.raises(BadSetting, match=r"there is no file .*nor .*/\.rastervision/other$"):
        load_settings(profile="other")
    write(home / "no-config/rvrun/other.toml", "[batch]\nattempts = 2\n")
    batch = load_settings(profile="other").batch
    assert (batch.cpu_job_queue, batch.attempts) == ("default", 2)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[BATCH]\nattempts=many\n", "`batch.attempts` cannot be 'many'"),
        ("[SAGEMAKER]\nuse_spot_instances=maybe\n", "cannot be 'maybe': give true or false"),
    ],
)
def test_values_that_cannot_be(home: pathlib.Path, text: str, problem: str) -> None:
    """They are refused, naming the file."""
    path = write(home / ".rastervision/default", text)
    with pytest.raises(BadSetting) as caught:
        load_settings()
    assert str(caught.value).startswith(f"{path}: ")
    assert problem in str(caught.value)


def test_a_file_that_cannot_be_read(home: pathlib.Path) -> None:
    """One sentence with its name."""
    path = write(home / ".rastervision/default", "[BATCH\n")
    with pytest.raises(rv_settings.BadFile) as caught:
        load_settings()
    assert str(caught.value).startswith(f"{path}: cannot be read as Raster Vision's settings: ")
    assert "\n" not in str(caught.value)


def test_without_raster_vision_nothing_of_it_counts(
    home: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Variables such as SAGEMAKER_ROLE are others' then."""
    write(home / ".rastervision/default", INI)
    monkeypatch.setenv("SAGEMAKER_ROLE", "mine")
    monkeypatch.setattr(rv_settings, "find_spec", lambda name: None)
    assert load_settings() == Settings()
