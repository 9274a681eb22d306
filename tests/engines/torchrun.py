#!/usr/bin/env python3
"""A stand-in for torchrun: its command line, its rendezvous, and the environment of its processes.

It works as documented for a fixed number of nodes: the first node listens at the master's address
until all others have connected, then each starts its processes. If one fails, the node ends its
other processes and exits with code 1.
"""

from __future__ import annotations

import argparse
import os
import socket
import subprocess
import sys

#: Seconds that the nodes wait for each other.
PATIENCE = 60


def arguments() -> argparse.Namespace:
    """Parse the command line; options have dashes or underscores, and unknown ones are refused."""
    parser = argparse.ArgumentParser(prog="torchrun", allow_abbrev=False)
    for name, kind in (
        ("nnodes", int),
        ("nproc_per_node", int),
        ("node_rank", int),
        ("master_addr", str),
        ("master_port", int),
    ):
        parser.add_argument(f"--{name}", f"--{name.replace('_', '-')}", type=kind, required=True)
    parser.add_argument("-m", "--module", action="store_true")
    parser.add_argument("training_script")
    parser.add_argument("training_script_args", nargs=argparse.REMAINDER)
    return parser.parse_args()


def rendezvous(options: argparse.Namespace) -> None:
    """Wait until all nodes are connected."""
    address = (options.master_addr, options.master_port)
    if options.node_rank == 0:
        with socket.create_server(address) as server:
            server.settimeout(PATIENCE)
            others = [server.accept()[0] for _ in range(options.nnodes - 1)]
            for other in others:
                other.sendall(b"go")
                other.close()
        return
    for _ in range(PATIENCE * 20):
        try:
            with socket.create_connection(address, timeout=PATIENCE) as master:
                assert master.recv(2) == b"go"
                return
        except ConnectionRefusedError:
            subprocess.run(["sleep", "0.05"], check=True)
    raise SystemExit("torchrun: the master does not answer")


def environment(options: argparse.Namespace, local_rank: int) -> dict[str, str]:
    """Return the environment variables of a process."""
    size = options.nproc_per_node
    variables = {
        "LOCAL_RANK": local_rank,
        "RANK": options.node_rank * size + local_rank,
        "GROUP_RANK": options.node_rank,
        "ROLE_RANK": options.node_rank * size + local_rank,
        "LOCAL_WORLD_SIZE": size,
        "WORLD_SIZE": options.nnodes * size,
        "GROUP_WORLD_SIZE": options.nnodes,
        "MASTER_ADDR": options.master_addr,
        "MASTER_PORT": options.master_port,
        "TORCHELASTIC_RUN_ID": "none",
    }
    return {**os.environ, **{name: str(value) for name, value in variables.items()}}


def main() -> int:
    options = arguments()
    rendezvous(options)
    script = ["-m", options.training_script] if options.module else [options.training_script]
    command = [sys.executable, "-u", *script, *options.training_script_args]
    processes = [
        subprocess.Popen(command, env=environment(options, rank))
        for rank in range(options.nproc_per_node)
    ]
    waiting = list(processes)
    while waiting:
        for process in waiting:
            try:
                code = process.wait(timeout=0.05)
            except subprocess.TimeoutExpired:
                continue
            waiting.remove(process)
            if code:
                for other in waiting:
                    other.terminate()
                return 1
            break
    return 0


if __name__ == "__main__":
    sys.exit(main())
