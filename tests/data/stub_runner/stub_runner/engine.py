"""The engine: runs the jobs of a ledger as processes, stage by stage, and keeps their states."""

from __future__ import annotations

import json
import os
import pathlib
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any


class Engine:
    """One run: `folder` is its ledger's."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder
        self.jobs: list[dict[str, Any]] = json.loads(
            (folder / "round-1/stub/jobs.json").read_text()
        )["jobs"]
        self.slots = json.loads((folder / "run.json").read_text())["slots"]
        self.path = folder / "state.json"
        self.states: dict[str, str] = (
            json.loads(self.path.read_text()) if self.path.exists() else {}
        )
        self.lock = threading.Lock()
        self.processes: set[subprocess.Popen[bytes]] = set()
        self.stopped = False

    def set(self, target: str, word: str) -> None:
        with self.lock:
            self.states[target] = word
            new = self.path.with_suffix(".new")
            new.write_text(json.dumps(self.states))
            new.replace(self.path)

    def run(self) -> None:
        """Run what has not succeeded, each stage after those that it needs."""
        with ThreadPoolExecutor(self.slots) as pool:
            for job in self.jobs:
                splits = list(range(job["splits"])) if "splits" in job else [None]
                todo = [i for i in splits if self.states.get(self.name(job, i)) != "succeeded"]
                is_blocked = any(self.has_failed(need) for need in job["needs"])
                for index in todo:
                    self.set(self.name(job, index), "failed" if is_blocked else "runnable")
                if not is_blocked:
                    list(pool.map(lambda index, job=job: self.start(job, index), todo))

    def has_failed(self, stage: str) -> bool:
        words = [w for name, w in self.states.items() if (name + "/").startswith(stage + "/")]
        return "failed" in words

    @staticmethod
    def name(job: dict[str, Any], index: int | None) -> str:
        return job["stage"] if index is None else f"{job['stage']}/{index}"

    def start(self, job: dict[str, Any], index: int | None) -> None:
        target = self.name(job, index)
        if self.stopped:
            self.set(target, "failed")
            return
        log = self.folder / "logs" / target.replace("/", ".")
        log.parent.mkdir(exist_ok=True)
        own = {} if index is None else {"STUB_TASK": str(index)}
        self.set(target, "running")
        with log.open("wb") as file:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", *job["argv"]],
                stdout=file,
                stderr=subprocess.STDOUT,
                env={**os.environ, **own},
            )
            self.processes.add(process)
            # `stop` may have been called after the look at `stopped`, and before `add`.
            if self.stopped:
                process.terminate()
            code = process.wait()
        self.set(target, "succeeded" if code == 0 else "failed")

    def stop(self, signum: int, frame: object) -> None:
        self.stopped = True
        for process in list(self.processes):
            process.terminate()


if __name__ == "__main__":
    engine = Engine(pathlib.Path(sys.argv[1]))
    signal.signal(signal.SIGTERM, engine.stop)
    engine.run()
