"""The files that jobs on other machines read: a pipeline's config, and the loose file of its code.

Both go below the pipeline's `root_uri`, named by a digest of their content: a job that starts late
reads what it was submitted with, whatever has changed since. Rendering is pure; `save` writes.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence

import attrs

from rvrun.adapters import registry as adapters
from rvrun.adapters.protocol import Adapter
from rvrun.aws import storage
from rvrun.environment import VERBOSITY
from rvrun.errors import RvrunError
from rvrun.model import CONFIG, NUM_SPLITS, SPLIT_IND, Stage
from rvrun.pipelines.declare import LoadedPipeline
from rvrun.programs.pipeline import Programs
from rvrun.render.files import to_text
from rvrun.settings.schema import Worker

#: Hex digits of a digest in a name.
DIGITS = 16


class LocalRoot(RvrunError):
    """Pipelines whose root other machines cannot reach."""

    roots: Mapping[str, str]
    runner: str
    fix = f"change `root_uri` to a URI such as {storage.S3}BUCKET/FOLDER"

    def __str__(self) -> str:
        roots = ", ".join(f"`{name}` has {root or '.'}" for name, root in self.roots.items())
        return (
            f"jobs of {self.runner} run on other machines, which can access {storage.S3} URIs but "
            f"not the directories of this one: {roots} as `root_uri`; use one such as "
            f"{storage.S3}BUCKET/FOLDER"
        )


class NeedsPlugin(RvrunError):
    """Another system's config whose class is in a loose file, which its worker ignores."""

    name: str
    source: str
    template = (
        "pipeline `{name}` has a class in {source}, which jobs on other machines cannot import; "
        "move it into a plugin that is installed in their image"
    )


@attrs.frozen(kw_only=True)
class Upload:
    """The files that the jobs of one pipeline read.

    - `config_uri`: where they read the config. `files`: the content to upload, by URI.
    - `adapter`: of the system whose config it is; None for rvrun's own.
    - `own_worker`: whether that system's own worker runs the targets.
    - `digest`: of such a config, whose URI does not depend on its content; else empty.
    - `programs`: the command lines of commands whose jobs need no worker, by command.
    """

    config_uri: str
    files: Mapping[str, str]
    adapter: Adapter | None = attrs.field(default=None, eq=False)
    own_worker: bool = True
    digest: str = ""
    programs: Mapping[str, Sequence[str]] = attrs.field(factory=dict)

    @property
    def own_adapter(self) -> Adapter | None:
        """The adapter of the system whose own worker runs the targets; None if rvrun's does."""
        return self.adapter if self.own_worker else None

    def argv(
        self, stage: Stage, runner: str, split_ind: int | None = None, verbosity: int = 0
    ) -> list[str]:
        """Return the command line of a target of `stage`.

        Without `split_ind`, the worker of a split stage determines its split itself. Another
        system's worker gets `verbosity` here, rvrun's in its `environment`. Neither gets a
        profile or a temporary folder, which belong to this machine: the profile's settings are
        saved with the config, and images have a TMPDIR of their own.
        """
        if stage.command in self.programs:
            return list(self.programs[stage.command])
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

    def environment(self, argv: Sequence[str], verbosity: int) -> dict[str, str]:
        """Return the environment variables of a target that `argv` runs."""
        is_needed = verbosity and self.adapter is not None and is_rvrun(argv)
        return {VERBOSITY: str(verbosity)} if is_needed else {}


def rvrun_argv(config_uri: str, stage: Stage, runner: str, split_ind: int | None) -> list[str]:
    """Return the command line of rvrun's own worker; see `Upload.argv`."""
    values = {CONFIG: config_uri, NUM_SPLITS: str(stage.num_splits), SPLIT_IND: str(split_ind)}
    omitted = ("--split-ind", SPLIT_IND) if split_ind is None else ()
    words = [values.get(word, word) for word in stage.argv if word not in omitted]
    return [*words, "--runner", runner]


def is_rvrun(argv: Sequence[str]) -> bool:
    """Whether a command line runs rvrun's own worker."""
    return argv[0] == "rvrun"


def check_roots(pipelines: Sequence[LoadedPipeline], runner: str) -> None:
    """Raise `LocalRoot` unless other machines can reach all roots."""
    local = {p.name: p.root_uri for p in pipelines if not storage.is_on_s3(p.root_uri)}
    if local:
        raise LocalRoot(local, runner)


def plan_upload(pipeline: LoadedPipeline, worker: Worker = "own") -> Upload:
    """Return the files that jobs of `pipeline` read; `worker` runs another system's targets.

    Raises `NeedsPlugin` or `CannotReach`.
    """
    adapter = adapters.of_document(pipeline.document)
    if adapter is not None:
        if pipeline.document.get("source"):
            raise NeedsPlugin(pipeline.name, pipeline.document["source"])
        # Saved by `save_configs`, not uploaded: its URI is that system's to choose.
        return Upload(
            config_uri=adapter.config_uri(pipeline.document),
            files={},
            adapter=adapter,
            own_worker=worker == "own",
            digest=short_digest(to_text(pipeline.document).encode()),
        )
    folder = storage.join(pipeline.root_uri, "rvrun")
    files: dict[str, str] = {}
    document = pipeline.document
    if pipeline.code is not None:
        source = document["source"]
        code_uri = storage.join(
            folder, "code", short_digest(pipeline.code), os.path.basename(source)
        )
        files[code_uri] = _decode(pipeline.code, source)
        document = {**document, "source": code_uri}
    text = to_text(document)
    config_name = f"{pipeline.name}-{short_digest(text.encode())}.json"
    config_uri = storage.join(folder, "config", config_name)
    files[config_uri] = text
    return Upload(config_uri=config_uri, files=files, programs=_find_programs(pipeline))


def _find_programs(pipeline: LoadedPipeline) -> dict[str, list[str]]:
    if not isinstance(pipeline.pipeline, Programs):
        return {}
    argvs = {name: pipeline.pipeline.job_argv(name) for name in pipeline.pipeline.commands}
    return {name: argv for name, argv in argvs.items() if argv is not None}


def _decode(code: bytes, source: str) -> str:
    try:
        return code.decode("utf-8")
    except UnicodeDecodeError as error:
        raise storage.CannotReach(source, f"is not UTF-8 ({error}); save it as UTF-8") from None


def upload_paths(uris: Sequence[str] | Mapping[str, str], folder: str) -> dict[str, str]:
    """Return where, below `folder` of a run directory, the content of each URI is rendered."""
    return {uri: f"{folder}/uploads/{uri.rpartition('/rvrun/')[2]}" for uri in uris}


def foreign_configs(pipelines: Sequence[LoadedPipeline]) -> dict[str, str]:
    """Return the configs of other systems by the URI where their own workers read them.

    They contain settings of this machine, so they are not part of what is rendered.
    """
    return dict(
        adapter.saved(pipeline.document)
        for pipeline in pipelines
        if (adapter := adapters.of_document(pipeline.document)) is not None
    )


def short_digest(content: bytes) -> str:
    """Return the beginning of the SHA-256 of `content`, in hex."""
    return hashlib.sha256(content).hexdigest()[:DIGITS]
