"""`rvrun`, also as `python -m rvrun`. The call of every target imports no command line."""

from __future__ import annotations

import gc
import sys

from rvrun import signals
from rvrun.streams import open_streams

#: The verb of a warm worker, which is `warm.protocol.VERB`.
WARM_WORKER = "warm_worker"
#: The module that runs the user's commands.
COMMANDS = "rvrun.worker.target"
#: How many new objects there must be until Python looks for cycles, instead of its 700.
MANY_OBJECTS = 10_000


def main() -> None:
    """Run the command line and exit."""
    signals.end_on_interrupt()
    open_streams()
    try:
        code = _run(sys.argv[1:])
    except KeyboardInterrupt:
        code = signals.SIGNALLED + 2
    finally:
        # What Python does at its end must not be interrupted by a traceback either.
        signals.end_on_interrupt()
    sys.exit(code)


def _run(argv: list[str]) -> int:
    if argv[:1] == ["run_command"]:
        from rvrun.worker.target import main as run_command

        code = run_command(argv[1:])
        if code is not None:
            return code
    if argv[:1] == [WARM_WORKER]:
        from rvrun.warm.server import main as warm_worker

        return warm_worker(argv[1:])
    return _run_cli(argv)


def _run_cli(argv: list[str]) -> int:
    """Run the command line without the collections of cycles, of which it makes hardly any.

    They would take a tenth of the time of `rvrun plan`, and a fifth of that of a verb with AWS.
    """
    gc.set_threshold(MANY_OBJECTS)
    from rvrun.cli.app import main as cli

    code = cli(argv)
    # What commands left open, such as files, is closed as at the end of any process.
    if COMMANDS not in sys.modules:
        gc.freeze()
    return code


if __name__ == "__main__":
    main()
