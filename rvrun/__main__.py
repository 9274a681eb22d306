"""`rvrun`, also as `python -m rvrun`. The call of every target imports no command line."""

from __future__ import annotations

import sys

from rvrun import signals
from rvrun.streams import open_streams

#: The verb of a warm worker, which is `warm.protocol.VERB`.
WARM_WORKER = "warm_worker"


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
    from rvrun.cli.app import main as cli

    return cli(argv)


if __name__ == "__main__":
    main()
