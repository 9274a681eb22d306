"""What jobs on other machines read of a pipeline, and where."""

from __future__ import annotations

import hashlib
import json
import pathlib
import shutil
import sys

import pytest

from rvrun.aws.storage import CannotReach
from rvrun.load.source import load
from rvrun.pipelines.declare import LoadedPipeline
from rvrun.remote.upload import LocalRoot, check_roots, plan_upload
from tests.conftest import ROOT

MODULE = '''
import rvrun


class MineConfig(rvrun.PipelineConfig):
    note: str = "ü"

    def build(self):
        return Mine(self)


class Mine(rvrun.Pipeline):
    commands = ("work",)

    def work(self):
        """Nothing."""


def get_configs(runner, roots="s3://bucket/run"):
    return [MineConfig(root_uri=r, name=f"mine{i}") for i, r in enumerate(roots.split())]
'''


def digits(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def mine(folder: pathlib.Path, roots: str = "s3://bucket/run/") -> list[LoadedPipeline]:
    """The pipelines of a loose file in `folder`, which is the current one."""
    (folder / "mine.py").write_text(MODULE, encoding="utf-8")
    return loaded(roots=roots)


def loaded(**args: str) -> list[LoadedPipeline]:
    """The pipelines of `mine.py`, read afresh."""
    sys.modules.pop("mine", None)
    return load("mine.py", "batch", args)


def test_a_loose_file_is_uploaded(in_folder: pathlib.Path) -> None:
    """With the config, which names it; both below the root, named by their content."""
    (pipeline,) = mine(in_folder)
    upload = plan_upload(pipeline)
    code_uri = f"s3://bucket/run/rvrun/code/{digits(MODULE)}/mine.py"
    config = upload.files[upload.config_uri]
    assert list(upload.files) == [code_uri, upload.config_uri]
    assert upload.files[code_uri] == MODULE
    assert json.loads(config) == {**pipeline.document, "source": code_uri}
    assert upload.config_uri == f"s3://bucket/run/rvrun/config/mine0-{digits(config)}.json"
    assert plan_upload(mine(in_folder)[0]) == upload


def test_a_changed_file_has_another_name(in_folder: pathlib.Path) -> None:
    """A job that starts late reads what it was submitted with."""
    (before,) = mine(in_folder)
    (in_folder / "mine.py").write_text(MODULE.replace("Nothing", "More"), encoding="utf-8")
    (after,) = loaded()
    assert set(plan_upload(before).files).isdisjoint(plan_upload(after).files)


def test_pipelines_of_one_root_share_the_code(in_folder: pathlib.Path) -> None:
    """It is uploaded once, with two configs."""
    first, second = mine(in_folder, "s3://bucket/run s3://bucket/run")
    assert len({**plan_upload(first).files, **plan_upload(second).files}) == 3


def test_an_installed_module_is_not_uploaded(
    in_folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is in the image; only the config is uploaded."""
    # A copy of its own: other tests copy the examples, and import modules called `tiny`.
    (in_folder / "site").mkdir()
    shutil.copy(ROOT / "examples/tiny.py", in_folder / "site/installed_tiny.py")
    monkeypatch.syspath_prepend(str(in_folder / "site"))
    (pipeline,) = load("installed_tiny", "batch", {"root_uri": "s3://bucket/tiny"})
    assert list(plan_upload(pipeline).files) == [plan_upload(pipeline).config_uri]


def test_code_that_is_not_utf8(in_folder: pathlib.Path) -> None:
    """The file is named; it would not survive its way through JSON."""
    (in_folder / "mine.py").write_bytes(b"# coding: latin-1\n# \xfc\n" + MODULE.encode("latin-1"))
    (pipeline,) = loaded()
    with pytest.raises(CannotReach, match=r"^mine\.py: is not UTF-8 .*; save it as UTF-8$"):
        plan_upload(pipeline)


def test_local_roots_are_refused(in_folder: pathlib.Path) -> None:
    """One error names all of them and the fix; a URI without a bucket is refused, too."""
    check_roots(mine(in_folder, "s3://bucket s3://bucket/x"), "AWS Batch")
    with pytest.raises(LocalRoot) as caught:
        check_roots(mine(in_folder, "out s3://bucket /tmp/x s3:///x"), "AWS Batch")
    assert str(caught.value) == (
        "jobs of AWS Batch run on other machines, which can access s3:// URIs but not the "
        "directories of this one: `mine0` has out, `mine2` has /tmp/x, `mine3` has s3:///x as "
        "`root_uri`; use one such as s3://BUCKET/FOLDER"
    )
