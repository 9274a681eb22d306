"""The landcover example on SageMaker Pipelines writes the same bytes as on this machine."""

from __future__ import annotations

import pathlib
import shutil

import pytest

from tests.conftest import Project
from tests.engines.moto import Moto
from tests.engines.sagemaker import SagemakerEngine
from tests.examples.test_landcover import EXAMPLES, IMAGERY, LARGE, files_of_run, without_imagery

SETTINGS = """
[sagemaker]
role = "arn:aws:iam::123456789012:role/rvrun"
cpu_image = "image"
cpu_instance_type = "ml.m5.large"

[sagemaker.commands."*/predict"]
split_by = "instances"
"""


@pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")
def test_the_bytes_are_the_same(moto: Moto, project: Project, tmp_path: pathlib.Path) -> None:
    """With all jobs as processes, and one stage with its splits on instances."""
    moto.bucket("lake")
    for uri in IMAGERY.values():
        key = uri.removeprefix("s3://lake/")
        moto.client("s3").upload_file(str(EXAMPLES / key), "lake", key)
    shutil.copy(EXAMPLES / "landcover.py", project.folder)
    project.write("rvrun.toml", SETTINGS)
    args = {"root_uri": "s3://lake/out", "window": str(LARGE), **IMAGERY}
    words = [word for name, value in args.items() for word in ("-a", name, value)]

    with SagemakerEngine(environment=moto.variables) as engine:
        engine.environment.update(engine.variables)
        command = ("run", "sagemaker", "landcover.py", "--splits", "2", *words)
        project.rvrun(*command, code=0, **{**moto.variables, **engine.variables})
        assert engine.wait(timeout=600) == ["Succeeded"]
        steps = engine.statuses()

    objects = moto.objects("lake").items()
    files = {key.removeprefix("out/"): content for key, content in objects if key[:4] == "out/"}
    # Below rvrun/ are the config and the code that were uploaded.
    made = {key: content for key, content in files.items() if not key.startswith("rvrun/")}
    assert without_imagery(files_of_run(tmp_path / "local")) == without_imagery(made)
    assert set(steps.values()) == {"Succeeded"}
    assert len(steps) == 2 + 5
