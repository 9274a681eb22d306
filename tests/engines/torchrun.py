#!/usr/bin/env python3
"""A stand-in for torchrun: its command line, its rendezvous, and what it tells each process.

As documented, for a fixed number of nodes: the first node listens at the master's address until all
have come, then each starts its processes. One that fails ends the others, and the exit code is 1.
"""

from __future__ import annotations

import argparse
import os
import socket
import subprocess
import sys

#: How long the nodes wait for each other, in seconds.
PATIENCE = 60


def arguments() -> argparse.Namespace:
    """Its command line; a flag may have dashes or underscores, and unknown ones are refused."""
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


def meet(said: argparse.Namespace) -> None:
    """Return when all nodes are there."""
    place = (said.master_addr, said.master_port)
    if said.node_rank == 0:
        with socket.create_server(place) as server:
            server.settimeout(PATIENCE)
            others = [server.accept()[0] for _ in range(said.nnodes - 1)]
            for other in others:
                other.sendall(b"go")
                other.close()
        return
    for _ in range(PATIENCE * 20):
        try:
            with socket.create_connection(place, timeout=PATIENCE) as master:
                assert master.recv(2) == b"go"
                return
        except ConnectionRefusedError:
            subprocess.run(["sleep", "0.05"], check=True)
    raise SystemExit("torchrun: the master does not answer")


def environment(said: argparse.Namespace, local_rank: int) -> dict[str, str]:
    """What a process is told."""
    size = said.nproc_per_node
    told = {
        "LOCAL_RANK": local_rank,
        "RANK": said.node_rank * size + local_rank,
        "GROUP_RANK": said.node_rank,
        "ROLE_RANK": said.node_rank * size + local_rank,
        "LOCAL_WORLD_SIZE": size,
        "WORLD_SIZE": said.nnodes * size,
        "GROUP_WORLD_SIZE": said.nnodes,
        "MASTER_ADDR": said.master_addr,
        "MASTER_PORT": said.master_port,
        "TORCHELASTIC_RUN_ID": "none",
    }
    return {**os.environ, **{name: str(value) for name, value in told.items()}}


def main() -> int:
    said = arguments()
    meet(said)
    script = ["-m", said.training_script] if said.module else [said.training_script]
    command = [sys.executable, "-u", *script, *said.training_script_args]
    processes = [
        subprocess.Popen(command, env=environment(said, rank))
        for rank in range(said.nproc_per_node)
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
