"""Entry point of `rvrun` and `python -m rvrun`. Running a target imports no command line."""

from __future__ import annotations

import sys

from rvrun import signals

#: The standard streams by file descriptor.
STREAMS = ("stdin", "stdout", "stderr")


def main() -> None:
    """Run the command line and exit."""
    signals.end_on_interrupt()
    if None in (sys.stdin, sys.stdout, sys.stderr):
        _open_closed_streams()
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
    from rvrun.cli.app import main as cli

    return cli(argv)


def _open_closed_streams() -> None:
    """Open the null device for each standard stream that was closed when this process started.

    Otherwise, the next file that is opened would get the stream's descriptor, and what a child
    process prints would go to that file: the lock, a log, or a pipe.
    """
    import os

    for number, name in enumerate(STREAMS):
        if getattr(sys, name) is not None:
            continue
        descriptor = os.open(os.devnull, os.O_RDWR)
        os.dup2(descriptor, number)
        if descriptor != number:
            os.close(descriptor)
        mode = "r" if number == 0 else "w"
        setattr(sys, name, os.fdopen(number, mode, encoding="utf-8", closefd=False))


if __name__ == "__main__":
    main()
