"""The pipeline of a saved config, rvrun's own or another system's, ready to run a command."""

from __future__ import annotations

import contextlib

from rvrun import paths
from rvrun.adapters import registry as adapters
from rvrun.aws import storage
from rvrun.errors import check_known
from rvrun.inputs import parse_json
from rvrun.pipelines import imports
from rvrun.pipelines.base import PipelineConfig, share
from rvrun.pipelines.items import saved_items
from rvrun.settings.files import may_restrict_imports
from rvrun.text import quoted
from rvrun.worker.call import BadCall

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager
    from typing import Any

    from rvrun.pipelines.base import Pipeline
    from rvrun.rundir.declared_files import DeclaredFiles
    from rvrun.worker.call import Call
    from rvrun.worker.item_work import ItemWork


def read_document(uri: str) -> dict[str, Any]:
    """Read the saved config at a path or S3 URI.

    Raises `BadCall`, `CannotRead` or `CannotReach`.
    """
    document = parse_json(storage.read(uri), uri)
    if adapters.is_own(document):
        return adapters.wrapped(document)
    if not isinstance(document, dict) or not isinstance(document.get("config"), dict):
        raise BadCall(f"{uri} is not a saved config of one pipeline")
    return document


def pipeline_name(document: dict[str, Any], uri: str) -> str:
    """Return the name of the pipeline of a saved config that was read from `uri`.

    Raises `BadCall` if it cannot be part of the paths of records and logs.
    """
    name = document.get("name") or document["config"].get("name", "")
    if name and not paths.is_pipeline_name(name):
        raise BadCall(
            f"{uri}: `name` must contain only ASCII letters, digits, `.`, `_` and `-`, got "
            f"{quoted(name)}; correct that file"
        )
    return str(name)


def restrict_imports() -> None:
    """Obey the setting `imports` before any code of the config is imported."""
    if may_restrict_imports():
        from rvrun.settings.layers import load_settings, trusted_folder

        imports.restrict_to(trusted_folder(load_settings()))


def opened(
    document: dict[str, Any], call: Call, warn: Callable[[str], None]
) -> AbstractContextManager[Any]:
    """Open the pipeline of a saved config, set up to run the command of `call`.

    - `warn`: receives what the user should see even if the command succeeds.
    """
    restrict_imports()
    adapter = adapters.of_document(document)
    if adapter is None:
        return contextlib.nullcontext(build(document, call.config))
    return adapter.opened(
        document,
        call.command,
        call.split_ind,
        call.num_splits,
        verbosity=call.verbosity,
        warn=warn,
    )


def built(document: dict[str, Any], uri: str) -> AbstractContextManager[Any]:
    """Open the pipeline of a saved config that was read from `uri`, without running anything."""
    restrict_imports()
    adapter = adapters.of_document(document)
    if adapter is None:
        return contextlib.nullcontext(build(document, uri))
    return adapter.built(document)


def build(document: dict[str, Any], uri: str) -> Pipeline:
    """Build the pipeline of rvrun's own saved config, importing its source file if it has one."""
    if document.get("source"):
        imports.import_saved_source(document["source"], uri)
    saved = document["config"]
    with imports.naming(uri):
        cls = imports.config_class(saved.get(imports.TYPE), PipelineConfig)
        config = imports.plain_config(cls, saved)
        if config is None:
            from rvrun.pipelines.declare import check_document
            from rvrun.pipelines.serialize import config_from_json

            check_document(document, uri)
            config = config_from_json(saved)
    assert isinstance(config, PipelineConfig)
    return config.build()


def run_items(work: ItemWork, pipeline: Any, document: dict[str, Any], command: str) -> None:
    """Call the method of a command for its items that are not done.

    Raises `OtherItems`, and whatever the method raises.
    """
    method = getattr(pipeline, command)
    adapter = adapters.of_document(document)
    if adapter is None or command in getattr(pipeline, "items", {}):
        work.run(pipeline.config, document["config"], method)
    else:
        values = adapter.items(document, command)
        work.run(values, values, method)


def declared_files(
    pipeline: Any, document: dict[str, Any], call: Call, name: str
) -> DeclaredFiles | None:
    """Return the files that the command of a call declares; None if it declares none.

    - `name`: of the target.

    Raises `BadDeclaration`, `BadPath` or `UnknownName`.
    """
    if not (getattr(pipeline, "inputs", None) or getattr(pipeline, "outputs", None)):
        return None
    from rvrun.pipelines.declare import read_paths
    from rvrun.rundir.declared_files import DeclaredFiles

    inputs, item_inputs, outputs = read_paths(pipeline, call.command, document["config"])
    return DeclaredFiles(
        name,
        call.split_ind,
        call.num_splits,
        inputs=inputs,
        item_inputs=item_inputs,
        outputs=outputs,
        items=_share_of(pipeline, document["config"], call),
    )


def _share_of(pipeline: Any, config: Any, call: Call) -> Sequence[Any]:
    """Return the JSON values of the items that a call does; empty if there are none."""
    field = getattr(pipeline, "items", {}).get(call.command)
    items = None if field is None else saved_items(config, field)
    return share(items or (), call.split_ind or 0, call.num_splits or 1)


def check_command(pipeline: Any, call: Call) -> None:
    """Raise `UnknownName` or `BadCall` unless `call` fits a command of `pipeline`."""
    name = type(pipeline).__name__
    check_known("command", call.command, tuple(pipeline.commands), f"pipeline `{name}`")
    if call.is_split and call.command not in pipeline.split_commands:
        raise BadCall(
            f"run_command {call.command}: --split-ind and --num-splits are for split commands, "
            f"and `split_commands` of `{name}` does not list it"
        )
