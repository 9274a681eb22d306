"""Files by URI: a path, or `s3://bucket/key`. Light on purpose: workers read their config with it.

Nothing of AWS is imported until an S3 URI is read or written.
"""

from __future__ import annotations

import contextlib
import os

from rvrun.errors import RvrunError
from rvrun.inputs import read_bytes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

    from rvrun.aws.client import Account

S3 = "s3://"
#: How many files are written concurrently.
THREADS = 16


class CannotReach(RvrunError):
    """A file that cannot be read from or written to its S3 URI."""

    uri: str
    problem: str
    template = "{uri}: {problem}"


def scheme(uri: str) -> str:
    """Return the scheme of a URI, such as `s3://`; empty for a path."""
    head, separator, _ = uri.partition("://")
    return head + separator if separator and head.isascii() and head.isalnum() else ""


def is_on_s3(uri: str) -> bool:
    """Whether `uri` is an S3 URI with a bucket."""
    return uri.startswith(S3) and uri.removeprefix(S3).partition("/")[0] != ""


def join(folder: str, *parts: str) -> str:
    """Return the URI of a file in the folder of that URI."""
    return "/".join([folder.rstrip("/"), *parts])


def split_s3(uri: str) -> tuple[str, str]:
    """Return the bucket and the key of an S3 URI. Raises `CannotReach` if it is not one."""
    if not uri.startswith(S3):
        raise CannotReach(uri, f"only paths and {S3} URIs are supported")
    bucket, _, key = uri.removeprefix(S3).partition("/")
    if not bucket:
        raise CannotReach(uri, "has no bucket")
    return bucket, key


def read(uri: str, account: Account | None = None) -> bytes:
    """Return the content of the file at `uri`. Raises `CannotRead` or `CannotReach`."""
    if not scheme(uri):
        return read_bytes(uri, "name another file, or make it readable")
    bucket, key = split_s3(uri)
    with _naming(uri):
        return _account(account).reader("s3").content("GetObject", Bucket=bucket, Key=key)


def list_objects(bucket: str, prefix: str) -> Iterator[dict[str, Any]]:
    """Yield the objects whose keys begin with `prefix`, as ListObjectsV2 has them.

    Raises `CannotReach`.
    """
    with _naming(f"{S3}{bucket}/{prefix}"):
        client = _account(None).reader("s3")
        params = {"Bucket": bucket, "Prefix": prefix}
        while True:
            answer = client.call("ListObjectsV2", **params)
            yield from answer.get("Contents", ())
            if not answer.get("IsTruncated"):
                return
            params["ContinuationToken"] = answer["NextContinuationToken"]


def fetch(uri: str) -> str:
    """Return the path of a copy of the file at `uri`, which is deleted when this process ends.

    The copy has the same name. Raises `CannotRead` or `CannotReach`.
    """
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
    """Write `content` to the S3 URI `uri`, atomically. Raises `CannotReach`."""
    bucket, key = split_s3(uri)
    with _naming(uri):
        _account(account).reader("s3").call("PutObject", Bucket=bucket, Key=key, Body=content)


def write_all(contents: Mapping[str, bytes], account: Account | None = None) -> None:
    """Write several files to their S3 URIs, concurrently. Raises `CannotReach`."""
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(THREADS) as pool:
        # The list waits for all of them and raises the first error.
        list(pool.map(lambda uri: write(uri, contents[uri], account), contents))


@contextlib.contextmanager
def _naming(uri: str) -> Iterator[None]:
    """Add the URI to errors: S3's own name neither bucket nor key."""
    from rvrun.aws.client import AwsError

    try:
        yield
    except AwsError as error:
        raise CannotReach(uri, str(error)) from None


def _account(account: Account | None) -> Account:
    from rvrun.aws.client import Account

    return account or Account()
