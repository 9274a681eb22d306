"""What of a pipeline travels to jobs on other machines: its config, and the loose file of its code.

Both go below the pipeline's `root_uri`, named by the digest of their content: so a job that starts
late reads what it was submitted with, whatever was changed meanwhile. Pure.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence

import attrs

from rvrun import storage
from rvrun.artifacts import to_text
from rvrun.errors import RvrunError
from rvrun.load import LoadedPipeline

#: Digits of a digest in a name.
DIGITS = 16


class LocalRoot(RvrunError):
    """Pipelines whose root no other machine can reach."""

    def __init__(self, roots: Mapping[str, str], runner: str) -> None:
        self.roots = roots
        self.runner = runner

    def __str__(self) -> str:
        listed = ", ".join(f"`{name}` has {root or '.'}" for name, root in self.roots.items())
        return (
            f"jobs of {self.runner} run on other machines, which reach {storage.S3} URIs but no "
            f"folder of this one: {listed} for `root_uri`; give such as s3://BUCKET/FOLDER"
        )


@attrs.frozen(kw_only=True)
class Shipment:
    """What travels of one pipeline.

    - `config_uri`: where its jobs read their config. `files`: the text by URI.
    """

    config_uri: str
    files: Mapping[str, str]


def check_roots(pipelines: Sequence[LoadedPipeline], runner: str) -> None:
    """Raise `LocalRoot` unless all roots are on S3."""
    local = {each.name: each.root_uri for each in pipelines if not storage.is_on_s3(each.root_uri)}
    if local:
        raise LocalRoot(local, runner)


def ship(pipeline: LoadedPipeline) -> Shipment:
    """What travels of `pipeline`."""
    folder = storage.join(pipeline.root_uri, "rvrun")
    files: dict[str, str] = {}
    document = pipeline.document
    if pipeline.code is not None:
        name = os.path.basename(document["source"])
        code_uri = storage.join(folder, "code", digits(pipeline.code), name)
        files[code_uri] = _decoded(pipeline.code, document["source"])
        document = {**document, "source": code_uri}
    text = to_text(document)
    name = f"{pipeline.name}-{digits(text.encode())}.json"
    config_uri = storage.join(folder, "config", name)
    return Shipment(config_uri=config_uri, files={**files, config_uri: text})


def _decoded(code: bytes, source: str) -> str:
    try:
        return code.decode("utf-8")
    except UnicodeDecodeError as error:
        raise storage.CannotReach(source, f"is not UTF-8 ({error}); save it so") from None


def digits(content: bytes) -> str:
    """The beginning of the SHA-256 of `content`, in hex."""
    return hashlib.sha256(content).hexdigest()[:DIGITS]
