"""What of a pipeline travels to jobs on other machines: its config, and the loose file of its code.

Both go below the pipeline's `root_uri`, named by the digest of their content: so a job that starts
late reads what it was submitted with, whatever was changed meanwhile. Pure.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence

import attrs

from rvrun.adapters import registry as foreign
from rvrun.aws import storage
from rvrun.aws.client import Account
from rvrun.errors import RvrunError
from rvrun.load.source import LoadedPipeline
from rvrun.model import CONFIG, NUM_SPLITS, SPLIT_IND, Stage
from rvrun.render.files import to_text
from rvrun.settings.schema import Worker
from rvrun.worker.target import VERBOSITY

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


class NeedsPlugin(RvrunError):
    """Another system's config whose class is in a loose file, which its worker cannot read."""

    def __init__(self, name: str, source: str) -> None:
        self.name = name
        self.source = source

    def __str__(self) -> str:
        return (
            f"pipeline `{self.name}` has a class that is in {self.source}, which jobs elsewhere "
            "cannot import; put it into a plugin that is installed in their image"
        )


@attrs.frozen(kw_only=True)
class Shipment:
    """What travels of one pipeline.

    - `config_uri`: where its jobs read their config. `files`: the text by URI.
    - `adapter`: of the system whose config it is; None for rvrun's.
    - `own_worker`: whether that system's own worker runs its targets.
    - `digest`: of such a config, whose URI does not tell what is there; else empty.
    """

    config_uri: str
    files: Mapping[str, str]
    adapter: foreign.Adapter | None = attrs.field(default=None, eq=False)
    own_worker: bool = True
    digest: str = ""

    @property
    def own_adapter(self) -> foreign.Adapter | None:
        """The adapter of the system whose own worker is to run its targets; None for rvrun's."""
        return self.adapter if self.own_worker else None

    def argv(
        self, stage: Stage, runner: str, split_ind: int | None = None, verbosity: int = 0
    ) -> list[str]:
        """The command line of a target of `stage`.

        Of a split one without `split_ind` the worker finds out itself which split is its own.
        Another system's worker is told `verbosity` here, rvrun's in its environment: see `told`.
        It is told neither profile nor folder of temporary files, which are of this machine: the
        profile's settings are saved with the config, and images have a TMPDIR of their own.
        """
        if (adapter := self.own_adapter) is not None:
            return adapter.argv(
                self.config_uri,
                stage.command,
                split_ind=None if split_ind is None else str(split_ind),
                num_splits=None if stage.num_splits is None else str(stage.num_splits),
                runner=runner if stage.num_splits is not None and split_ind is None else None,
                verbosity=verbosity,
            )
        return rvrun_argv(self.config_uri, stage, runner, split_ind)

    def told(self, argv: Sequence[str], verbosity: int) -> dict[str, str]:
        """The environment variables of a target that is run by `argv`."""
        is_needed = verbosity and self.adapter is not None and is_rvrun(argv)
        return {VERBOSITY: str(verbosity)} if is_needed else {}


def rvrun_argv(config_uri: str, stage: Stage, runner: str, split_ind: int | None) -> list[str]:
    """The command line of rvrun's own worker; as `Shipment.argv`."""
    said = {CONFIG: config_uri, NUM_SPLITS: str(stage.num_splits), SPLIT_IND: str(split_ind)}
    left_out = ("--split-ind", SPLIT_IND) if split_ind is None else ()
    words = [said.get(word, word) for word in stage.argv if word not in left_out]
    return [*words, "--runner", runner]


def is_rvrun(argv: Sequence[str]) -> bool:
    """Whether a command line is one of rvrun's own worker."""
    return argv[0] == "rvrun"


def check_roots(pipelines: Sequence[LoadedPipeline], runner: str) -> None:
    """Raise `LocalRoot` unless all roots are on S3."""
    local = {each.name: each.root_uri for each in pipelines if not storage.is_on_s3(each.root_uri)}
    if local:
        raise LocalRoot(local, runner)


def ship(pipeline: LoadedPipeline, worker: Worker = "own") -> Shipment:
    """What travels of `pipeline`, whose targets `worker` runs if it is another system's.

    Its config does not travel yet; see `save`.
    """
    adapter = foreign.of_document(pipeline.document)
    if adapter is not None:
        if pipeline.document.get("source"):
            raise NeedsPlugin(pipeline.name, pipeline.document["source"])
        return Shipment(
            config_uri=adapter.config_uri(pipeline.document),
            files={},
            adapter=adapter,
            own_worker=worker == "own",
            digest=digits(to_text(pipeline.document).encode()),
        )
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


def save(pipelines: Iterable[LoadedPipeline], account: Account) -> None:
    """Save the configs of other systems where their own workers look for them.

    They hold what depends on this machine, so they are no part of what is rendered.
    """
    saved = (
        adapter.saved(pipeline.document)
        for pipeline in pipelines
        if (adapter := foreign.of_document(pipeline.document)) is not None
    )
    storage.write_all({uri: text.encode() for uri, text in saved}, account)


def digits(content: bytes) -> str:
    """The beginning of the SHA-256 of `content`, in hex."""
    return hashlib.sha256(content).hexdigest()[:DIGITS]
