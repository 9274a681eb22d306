"""The contract of an adapter: a module with these functions runs another system's pipelines."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

from rvrun.pipelines.declare import LoadedPipeline


class Adapter(Protocol):
    """The functions of an adapter's module.

    - `config`: the system's own object. `document`: the JSON values of a saved config, either as
      rvrun saves it (see `registry.KEY`) or as the system does (see `registry.MARKS`).
    """

    def set_up(self, verbosity: int) -> AbstractContextManager[None]:
        """Set the system up as its own command line does, so that user code can be imported."""

    def load(self, config: Any, source: str | None) -> LoadedPipeline:
        """Load the pipeline of a user's config; `source` is the loose file that returned it."""

    def load_saved(self, document: Mapping[str, Any]) -> LoadedPipeline:
        """Load the pipeline of a saved config."""

    def distinguish(self, pipelines: Sequence[LoadedPipeline]) -> list[LoadedPipeline]:
        """Return the same pipelines, renamed where two have the same name."""

    def wrap(self, values: dict[str, Any]) -> dict[str, Any]:
        """Convert a config that the system saved to what rvrun saves."""

    def config_classes(self, document: Mapping[str, Any]) -> Sequence[type]:
        """Import what opening the pipeline of a saved config imports, without creating the config.

        Returns the classes of all configs in it, whose modules show what targets import later.
        """

    def built(self, document: Mapping[str, Any]) -> AbstractContextManager[Any]:
        """Open the pipeline of a saved config, without writing anything."""

    def opened(
        self,
        document: Mapping[str, Any],
        command: str,
        split_ind: int | None,
        num_splits: int | None,
        *,
        verbosity: int,
        warn: Callable[[str], None],
    ) -> AbstractContextManager[Any]:
        """Open the pipeline of a saved config, set up to run one target.

        - `warn`: receives sentences that the user should see even if the target succeeds.
        """

    def items(self, document: Mapping[str, Any], command: str) -> Mapping[str, Any]:
        """Return a config with the items of a command where its `StageItems.field` says.

        The planned items of a command that has some only with one split per item.
        """

    def leftovers(self, document: Mapping[str, Any]) -> Iterator[str]:
        """Yield a sentence for what earlier runs left that commands would misuse."""

    def config_uri(self, document: Mapping[str, Any]) -> str:
        """Return where the system's own worker looks for a saved config."""

    def saved(self, document: Mapping[str, Any]) -> tuple[str, str]:
        """Return where the system's own worker looks for the config, and what it reads there."""

    def repeated(self, document: Mapping[str, Any]) -> Mapping[str, str]:
        """Return the effect of a second attempt, by command that must not be attempted twice.

        It completes "a second attempt of COMMAND ...".
        """

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
        """Return the command line of the system's own worker for one target.

        - `runner`: the system's runner, from which the worker determines its split if there is
          no `split_ind`.
        """
