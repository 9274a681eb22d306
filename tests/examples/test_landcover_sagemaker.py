"""The landcover example on SageMaker Pipelines: the same bytes as on this machine."""

from __future__ import annotations

import pathlib
import shutil

import pytest

from tests.conftest import Project
from tests.engines.moto import Moto
from tests.engines.sagemaker import SagemakerEngine
from tests.examples.test_landcover import EXAMPLES, IMAGERY, LARGE, without_imagery

SETTINGS = """
[sagemaker]
role = "arn:aws:iam::123456789012:role/rvrun"
cpu_image = "image"
cpu_instance_type = "ml.m5.large"
"""


def local_files(folder: pathlib.Path) -> dict[str, bytes]:
    """What `rvrun run local` leaves, by path."""
    project = Project(folder)
    shutil.copy(EXAMPLES / "landcover.py", folder)
    shutil.copytree(EXAMPLES / "data", folder / "data")
    args = ("-a", "root_uri", "out", "-a", "window", str(LARGE))
    project.rvrun("run", "local", "landcover.py", "--splits", "2", "-j2", *args)
    paths = [path for path in (folder / "out").rglob("*") if path.is_file()]
    return {path.relative_to(folder / "out").as_posix(): path.read_bytes() for path in paths}


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    return local_files(tmp_path_factory.mktemp("local"))


@pytest.mark.parametrize("split_by", ["steps", "instances"])
def test_the_bytes_are_the_same(
    split_by: str, expected: dict[str, bytes], moto: Moto, project: Project
) -> None:
    """Whole, through a pipeline definition whose jobs are processes, split in both ways."""
    moto.bucket("lake")
    for uri in IMAGERY.values():
        key = uri.removeprefix("s3://lake/")
        moto.client("s3").upload_file(str(EXAMPLES / key), "lake", key)
    shutil.copy(EXAMPLES / "landcover.py", project.folder)
    project.write("rvrun.toml", f'{SETTINGS}split_by = "{split_by}"\n')
    args = {"root_uri": "s3://lake/out", "window": str(LARGE), **IMAGERY}
    words = [word for name, value in args.items() for word in ("-a", name, value)]

    with SagemakerEngine(environment=moto.variables) as engine:
        engine.environment.update(engine.variables)
        command = ("run", "sagemaker", "landcover.py", "--splits", "3", *words)
        project.rvrun(*command, **{**moto.variables, **engine.variables})
        assert engine.wait(timeout=600) == ["Succeeded"]
        steps = engine.statuses()

    objects = moto.objects("lake").items()
    files = {key.removeprefix("out/"): content for key, content in objects if key[:4] == "out/"}
    shipped = {key for key in files if key.startswith("rvrun/")}
    made = {key: content for key, content in files.items() if key not in shipped}
    assert without_imagery(expected) == without_imagery(made)
    assert set(steps.values()) == {"Succeeded"}
    assert len(steps) == (10 if split_by == "steps" else 6)
