"""Entry point of `rvrun` and `python -m rvrun`. Running a target imports no command line."""

from __future__ import annotations

import sys

from rvrun.streams import open_streams


def main() -> None:
    """Run the command line and exit."""
    open_streams()
    if sys.argv[1:2] == ["run_command"]:
        from rvrun.worker.target import main as run_command

        code = run_command(sys.argv[2:])
        if code is not None:
            sys.exit(code)
    from rvrun.cli.app import main as cli

    sys.exit(cli(sys.argv[1:]))


if __name__ == "__main__":
    main()
