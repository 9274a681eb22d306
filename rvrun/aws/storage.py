"""Files by URI: a path, or `s3://bucket/key`. Light on purpose: workers read their config so.

Nothing of AWS is imported before an S3 URI is met.
"""

from __future__ import annotations

import contextlib
import os

from rvrun.errors import RvrunError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from rvrun.aws.client import Account

S3 = "s3://"
#: How many files are written at the same time.
THREADS = 16


class CannotReach(RvrunError):
    """A file that cannot be read or written where its URI says."""

    def __init__(self, uri: str, problem: str) -> None:
        self.uri = uri
        self.problem = problem

    def __str__(self) -> str:
        return f"{self.uri}: {self.problem}"


def scheme(uri: str) -> str:
    """`s3://` of an URI; empty for a path."""
    head, separator, _ = uri.partition("://")
    return head + separator if separator and head.isascii() and head.isalnum() else ""


def is_on_s3(uri: str) -> bool:
    """Whether it is an S3 URI, with a bucket."""
    return uri.startswith(S3) and uri.removeprefix(S3).partition("/")[0] != ""


def join(folder: str, *parts: str) -> str:
    """The URI of a file below that of a folder."""
    return "/".join([folder.rstrip("/"), *parts])


def read(uri: str, account: Account | None = None) -> bytes:
    """The content of the file at `uri`. Raises `CannotReach`."""
    if not scheme(uri):
        return _read_path(uri)
    bucket, key = split_s3(uri)
    with _naming(uri):
        return _account(account).reader("s3").content("GetObject", Bucket=bucket, Key=key)


def fetch(uri: str) -> str:
    """The path of a copy of the file at `uri`, of the same name, kept while this process runs."""
    import atexit
    import shutil
    import tempfile

    content = read(uri)
    folder = tempfile.mkdtemp(prefix="rvrun-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    path = os.path.join(folder, uri.rpartition("/")[2])
    with open(path, "wb") as file:
        file.write(content)
    return path


def write(uri: str, content: bytes, account: Account | None = None) -> None:
    """Put `content` at the S3 URI `uri`, whole or not at all. Raises `CannotReach`."""
    bucket, key = split_s3(uri)
    with _naming(uri):
        _account(account).reader("s3").call("PutObject", Bucket=bucket, Key=key, Body=content)


@contextlib.contextmanager
def _naming(uri: str) -> Iterator[None]:
    """What S3 answers names neither bucket nor key."""
    from rvrun.aws.client import AwsError

    try:
        yield
    except AwsError as error:
        raise CannotReach(uri, str(error)) from None


def write_all(contents: Mapping[str, bytes], account: Account | None = None) -> None:
    """As `write`, several at a time."""
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(lambda uri: write(uri, contents[uri], account), contents))


def split_s3(uri: str) -> tuple[str, str]:
    """The bucket and the key of an S3 URI. Raises `CannotReach` for what is none."""
    if not uri.startswith(S3):
        raise CannotReach(uri, f"only paths and {S3} can be read and written")
    bucket, _, key = uri.removeprefix(S3).partition("/")
    if not bucket:
        raise CannotReach(uri, "names no bucket")
    return bucket, key


def _account(account: Account | None) -> Account:
    from rvrun.aws.client import Account

    return account or Account()


def _read_path(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise CannotReach(path, f"cannot be read: {error.strerror}") from None
