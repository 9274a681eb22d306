"""Files by URI: paths, and S3 through a server on loopback."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator

import pytest

from rvrun.aws import client as aws
from rvrun.aws import storage
from rvrun.aws.client import Account
from rvrun.aws.storage import CannotReach
from rvrun.inputs import CannotRead
from tests.engines.moto import Moto


@pytest.fixture
def s3(moto: Moto, monkeypatch: pytest.MonkeyPatch) -> Iterator[Moto]:
    """A server with an empty bucket, set in the environment of this process."""
    for name, value in moto.variables.items():
        monkeypatch.setenv(name, value)
    moto.bucket()
    # Clients are cached, with the servers of earlier tests.
    aws._client.cache_clear()
    yield moto
    aws._client.cache_clear()


@pytest.fixture
def account(s3: Moto) -> Account:
    """Clients are cached by account, so the server has an account of its own."""
    return Account(region="us-east-1")


@pytest.mark.parametrize(
    ("uri", "scheme"),
    [
        ("s3://bucket/key", "s3://"),
        ("gs://bucket/key", "gs://"),
        ("folder/file", ""),
        ("/folder/file", ""),
        ("odd name://x", ""),
        ("", ""),
    ],
)
def test_scheme(uri: str, scheme: str) -> None:
    """A URI without a scheme is a path."""
    assert storage.scheme(uri) == scheme


@pytest.mark.parametrize(
    ("folder", "uri"),
    [
        ("s3://bucket", "s3://bucket/a/b"),
        ("s3://bucket/", "s3://bucket/a/b"),
        ("s3://bucket/run//", "s3://bucket/run/a/b"),
        ("out", "out/a/b"),
    ],
)
def test_join(folder: str, uri: str) -> None:
    """There is one slash between parts, however many the folder ends with."""
    assert storage.join(folder, "a", "b") == uri


def test_split_s3() -> None:
    """The key may be empty, and contain any characters."""
    assert storage.split_s3("s3://bucket/a/b c.json") == ("bucket", "a/b c.json")
    assert storage.split_s3("s3://bucket") == ("bucket", "")


@pytest.mark.parametrize(
    ("uri", "problem"),
    [
        ("gs://bucket/key", "gs://bucket/key: only paths and s3:// URIs are supported"),
        ("s3://", "s3://: has no bucket"),
        ("s3:///key", "s3:///key: has no bucket"),
    ],
)
def test_other_uris_are_refused(uri: str, problem: str) -> None:
    """The error names the URI."""
    for action in (storage.read, lambda uri: storage.write(uri, b"")):
        with pytest.raises(CannotReach) as caught:
            action(uri)
        assert str(caught.value) == problem


def test_paths_are_read(tmp_path: pathlib.Path) -> None:
    """AWS is not needed; the error names a missing file."""
    path = tmp_path / "file"
    path.write_bytes(b"content")
    assert storage.read(str(path)) == b"content"
    with pytest.raises(CannotRead) as caught:
        storage.read(f"{path}.no")
    problem = "cannot be read: No such file or directory"
    assert str(caught.value) == f"{path}.no: {problem}; name another file, or make it readable"


def test_objects_are_written_and_read(s3: Moto, account: Account) -> None:
    """An object is replaced as a whole."""
    storage.write("s3://bucket/a/b.json", b"old", account)
    storage.write("s3://bucket/a/b.json", "nü".encode(), account)
    assert storage.read("s3://bucket/a/b.json", account) == "nü".encode()
    assert s3.objects() == {"a/b.json": "nü".encode()}


def test_a_copy_has_the_name_of_the_object(s3: Moto, account: Account) -> None:
    """A module must be importable by that name."""
    storage.write("s3://bucket/code/0123/mine.py", b"x = 1\n", account)
    path = pathlib.Path(storage.fetch("s3://bucket/code/0123/mine.py"))
    assert (path.name, path.read_bytes()) == ("mine.py", b"x = 1\n")


@pytest.mark.parametrize(
    ("uri", "problem"),
    [
        ("s3://bucket/no", "The specified key does not exist. (NoSuchKey)"),
        ("s3://no/key", "The specified bucket does not exist (NoSuchBucket)"),
    ],
)
def test_missing_objects(s3: Moto, account: Account, uri: str, problem: str) -> None:
    """The error names bucket and key, which S3's own message does not."""
    with pytest.raises(CannotReach) as caught:
        storage.read(uri, account)
    assert str(caught.value) == f"{uri}: AWS s3 GetObject: {problem}"


def test_an_object_that_cannot_be_written(s3: Moto, account: Account) -> None:
    """For example if the bucket's name was mistyped."""
    with pytest.raises(CannotReach) as caught:
        storage.write("s3://no/run/config.json", b"", account)
    assert str(caught.value) == (
        "s3://no/run/config.json: AWS s3 PutObject: The specified bucket does not exist "
        "(NoSuchBucket)"
    )
