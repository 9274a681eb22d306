"""What the adapter of another system's pipelines offers: a module with these functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

from rvrun.pipelines.declare import LoadedPipeline


class Adapter(Protocol):
    """What an adapter's module offers."""

    def set_up(self, verbosity: int) -> None:
        """What the system's own command line does before it loads a config."""

    def load(self, config: Any, source: str | None) -> LoadedPipeline:
        """The pipeline of a config as the user made it; `source`: its file, if it has one."""

    def load_saved(self, document: Mapping[str, Any]) -> LoadedPipeline:
        """The pipeline of a saved config, rvrun's (see `KEY`) or the system's own."""

    def distinguish(self, pipelines: Sequence[LoadedPipeline]) -> list[LoadedPipeline]:
        """The same pipelines, under names of their own where two had the same."""

    def wrap(self, values: dict[str, Any]) -> dict[str, Any]:
        """The system's own saved config as rvrun saves it."""

    def built(self, document: Mapping[str, Any]) -> AbstractContextManager[Any]:
        """Within, the pipeline of a saved config; nothing is written."""

    def opened(
        self,
        document: Mapping[str, Any],
        command: str,
        split_ind: int | None,
        num_splits: int | None,
        *,
        verbosity: int,
    ) -> AbstractContextManager[Any]:
        """Open the pipeline of a saved config, set up to run one target."""

    def config_uri(self, document: Mapping[str, Any]) -> str:
        """Where the system's own worker looks for a saved config."""

    def saved(self, document: Mapping[str, Any]) -> tuple[str, str]:
        """Where the system's own worker looks for the config, and the text that it reads."""

    def repeated(self, document: Mapping[str, Any]) -> Mapping[str, str]:
        """Commands that the system's own worker must not try twice: what that would do."""

    def argv(
        self,
        uri: str,
        command: str,
        *,
        split_ind: str | None = None,
        num_splits: str | None = None,
        runner: str | None = None,
        verbosity: int = 0,
    ) -> list[str]:
        """How the system's own worker is called for one target, or one of an array's."""
