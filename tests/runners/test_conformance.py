"""Every runner keeps the contract: rvrun's own, and one of another distribution."""

from __future__ import annotations

import json
import pathlib
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from rvrun import plugins
from rvrun.runners import builtin
from rvrun.runners.registry import find_runner
from rvrun.testing import check_contract, check_runner
from tests.conftest import ROOT, clean_environment
from tests.engines.batch import BatchEngine
from tests.engines.moto import Moto
from tests.engines.sagemaker import SagemakerEngine
from tests.engines.slurm import Slurm

BATCH = '[batch]\ncpu_job_queue = "cpu"\ncpu_job_def = "work"\n'
SAGEMAKER = """
[sagemaker]
role = "arn:aws:iam::123456789012:role/rvrun"
cpu_image = "image"
cpu_instance_type = "ml.m5.large"
"""
STUB = '[stub]\nqueue = "q"\n'


@pytest.fixture(scope="session")
def stub_distribution(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A folder in which the stub runner's distribution is installed."""
    source, target = ROOT / "tests/data/stub_runner", tmp_path_factory.mktemp("site")
    build = tmp_path_factory.mktemp("source") / "stub"
    subprocess.run(["cp", "-r", str(source), str(build)], check=True)
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "--target", str(target), str(build)], check=True)
    return target


@pytest.fixture
def stub(
    stub_distribution: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[pathlib.Path]:
    """The stub runner is installed, for this process and those that it starts."""
    for name, value in clean_environment(PYTHONPATH=str(stub_distribution)).items():
        monkeypatch.setenv(name, value)
    monkeypatch.syspath_prepend(str(stub_distribution))
    yield stub_distribution
    for name in [name for name in sys.modules if name.startswith("stub_runner")]:
        del sys.modules[name]


def test_every_built_in_runner_is_checked() -> None:
    """What mypy checks is what is installed."""
    assert {*builtin.LOCAL, *builtin.DETACHED} == set(plugins.runner_names())
    for name, module in {**builtin.LOCAL, **builtin.DETACHED}.items():
        assert find_runner(name) is module


@pytest.mark.parametrize("name", builtin.LOCAL)
@pytest.mark.usefixtures("processes")
def test_runners_on_this_machine(
    name: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """make, and this process."""
    monkeypatch.setenv("XDG_CONFIG_HOME", "/nonexistent")
    check_runner(name, tmp_path)


def test_batch(moto: Moto, tmp_path: pathlib.Path) -> None:
    """Jobs run as processes by Batch's rules."""
    bucket = moto.bucket()
    with BatchEngine() as engine:
        engine.add_queue("cpu")
        engine.add_definition("work", command=["true"])
        environ = clean_environment(**{**moto.variables, **engine.variables})
        engine.environment.update(environ)
        check_runner(
            "batch",
            tmp_path,
            root_uri=f"{bucket}/conformance",
            settings=BATCH,
            environ=environ,
            job_environ=lambda index, size: {"AWS_BATCH_JOB_ARRAY_INDEX": str(index)},
        )


def test_sagemaker(moto: Moto, tmp_path: pathlib.Path) -> None:
    """Steps run as processes by SageMaker's rules."""
    bucket = moto.bucket()

    def read(name: str, key: str) -> bytes:
        content: bytes = moto.client("s3").get_object(Bucket=name, Key=key)["Body"].read()
        return content

    def job_environ(index: int, size: int) -> dict[str, str]:
        hosts = [f"algo-{number + 1}" for number in range(size)]
        path = tmp_path / f"hosts-{index}.json"
        path.write_text(json.dumps({"current_host": hosts[index], "hosts": hosts}))
        return {"RVRUN_RESOURCE_CONFIG": str(path)}

    engine = SagemakerEngine(environment=moto.variables, read_s3=read)
    try:
        environ = clean_environment(**{**moto.variables, **engine.variables})
        engine.environment.update(environ)
        check_runner(
            "sagemaker",
            tmp_path / "site",
            root_uri=f"{bucket}/conformance",
            settings=SAGEMAKER,
            environ=environ,
            job_environ=job_environ,
        )
    finally:
        engine.close()


def test_slurm(slurm: Slurm, tmp_path: pathlib.Path) -> None:
    """Jobs run on a real Slurm."""
    check_runner(
        "slurm",
        tmp_path,
        settings='[slurm]\ntime = "30"\n',
        environ=clean_environment(**slurm.variables),
        job_environ=lambda index, size: {"SLURM_ARRAY_TASK_ID": str(index)},
    )


def job_of_stub(index: int, size: int) -> dict[str, str]:
    return {"STUB_TASK": str(index)}


@pytest.mark.usefixtures("processes")
def test_a_runner_of_another_distribution(stub: pathlib.Path, tmp_path: pathlib.Path) -> None:
    """With its own section of settings, its own split variable, its own template."""
    check_runner("stub", tmp_path, settings=STUB, job_environ=job_of_stub)


@pytest.mark.parametrize(
    "name",
    [
        *("TITLE", "SETTINGS", "CAPABILITIES", "TEMPLATES", "OWNS", "render", "check_machine"),
        *("split_index", "attempt", "check", "risks", "submit", "state", "logs", "cancel", "retry"),
    ],
)
@pytest.mark.usefixtures("processes")
def test_a_member_that_is_missing(
    name: str, stub: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """None can be left out."""
    runner = find_runner("stub")
    monkeypatch.delattr(runner, name)
    with pytest.raises((AssertionError, AttributeError), match=name):
        check_contract(runner)


@pytest.mark.usefixtures("processes")
def test_a_function_with_other_parameters(
    stub: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would fail where it is called."""
    runner = find_runner("stub")
    monkeypatch.setattr(runner, "logs", lambda ledger, target: iter(()))
    with pytest.raises(AssertionError, match=r"`logs` must take \(ledger, target, follow\)"):
        check_contract(runner)


@pytest.mark.parametrize(
    ("claims", "message"),
    [
        ({}, None),
        ({"isolated": False}, "isolated is False"),
        ({"keeps_stamps": False}, "keeps_stamps is False"),
        ({"keeps_going": False}, "keeps_going is False"),
        ({"has_debugger": True}, "has_debugger is True"),
        ({"needs_remote_storage": True}, "needs_remote_storage is True"),
        ({"multi_host": True}, "the runner has no `hosts`"),
        ({"detached": True}, "the runner has no `check`"),
        ({"runner": "inprocess", "isolated": True}, "isolated is True"),
        ({"runner": "inprocess", "has_debugger": False}, "has_debugger is False"),
    ],
    ids=str,
)
@pytest.mark.usefixtures("processes")
def test_a_capability_that_is_not_so(
    claims: dict[str, object],
    message: str | None,
    stub: pathlib.Path,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Too little is as wrong as too much."""
    monkeypatch.setenv("STUB_CLAIMS", json.dumps(claims))
    check: Callable[[], None] = lambda: check_runner("claims", tmp_path)  # noqa: E731
    if message is None:
        check()
    else:
        with pytest.raises(AssertionError, match=message):
            check()


@pytest.mark.parametrize(
    "capability", ["detached", "keeps_stamps", "needs_remote_storage", "reports_targets"]
)
@pytest.mark.usefixtures("processes")
def test_a_capability_of_a_detached_runner_that_is_not_so(
    capability: str, stub: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stub reads what it should claim from its own variable."""
    monkeypatch.setenv("STUB_CLAIM", capability)
    with pytest.raises(AssertionError, match=f"{capability} is|has no `(run|targets)`"):
        check_runner("stub", tmp_path, settings=STUB, job_environ=job_of_stub)


@pytest.mark.usefixtures("processes")
def test_a_runner_that_cannot_be_imported(
    stub: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The distribution is named, whatever verb is used."""
    monkeypatch.setenv("STUB_CLAIMS", "nonsense")
    with pytest.raises(plugins.BrokenRunner) as caught:
        find_runner("claims")
    assert str(caught.value).startswith(
        "runner `claims` cannot be loaded: importing `stub_runner.claims` of stub-runner raised "
        "JSONDecodeError: "
    )
