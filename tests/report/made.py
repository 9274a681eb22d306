"""Run directories of any size without running anything: plans, records, stamps and logs."""

from __future__ import annotations

import heapq
import json
import os
import pathlib
import random
from collections.abc import Sequence

import attrs

from rvrun import paths
from rvrun.model import Need, NeedKind, Plan, PlannedPipeline, Stage, Target
from rvrun.plan.serialize import plan_to_json

#: When all made runs begin, in seconds since 1970: 2026-01-02 03:04:05 UTC.
BEGAN = 1767323045.0
DIGEST = "sha256:" + "0a" * 32


def plan_of(num_splits: int, name: str = "land") -> Plan:
    """A plan of six stages with three split ones, of which one is aligned."""
    stages = (
        Stage(command="analyze"),
        Stage(command="chip", num_splits=num_splits, needs=(Need("analyze"),)),
        Stage(command="clean", num_splits=num_splits, needs=(Need("chip", NeedKind.ALIGNED),)),
        Stage(command="train", needs=(Need("analyze"), Need("clean"))),
        Stage(command="predict", num_splits=num_splits, needs=(Need("train"),)),
        Stage(command="eval", needs=(Need("predict"),)),
    )
    pipeline = PlannedPipeline(name=name, config_digest=DIGEST, stages=stages)
    return Plan(pipelines=(pipeline,))


@attrs.define
class Made:
    """Writes a run directory.

    - `failing`: names of targets that fail, with their exit code, or the negated signal.
    - `jobs`: how many targets run at the same time.
    """

    folder: pathlib.Path
    plan: Plan
    jobs: int = 4
    seed: int = 1
    failing: dict[str, int] = attrs.field(factory=dict)
    ends: dict[str, float] = attrs.field(factory=dict)

    def write(self) -> pathlib.Path:
        self._file(paths.PLAN, plan_to_json(self.plan))
        for pipeline in self.plan.pipelines:
            config = {"root_uri": f"out/{pipeline.name}", "lr": 0.01, "api_token": "abcdefgh12345"}
            text = json.dumps({"rvrun_config": 1, "config": config})
            self._file(paths.config(pipeline.name), text, BEGAN - 10)
        self._run()
        return self.folder

    def _run(self) -> None:
        """Start each target as soon as what it needs is done and a slot is free."""
        generator = random.Random(self.seed)
        slots = [BEGAN + 0.5] * self.jobs
        failed: set[str] = set()
        for pipeline in self.plan.pipelines:
            for stage in pipeline.stages:
                names = {f"{pipeline.name}/{need.command}" for need in stage.needs}
                if names & failed:
                    failed.add(f"{pipeline.name}/{stage.command}")
                    continue
                for target in stage.targets(pipeline.name):
                    ready = self._ready(stage, target)
                    began = max(heapq.heappop(slots), ready)
                    seconds = self._seconds(generator, stage)
                    self._record(target, began, began + seconds)
                    heapq.heappush(slots, began + seconds + 0.002)
                    self.ends[target.name] = began + seconds
                    if target.name in self.failing:
                        failed.add(f"{pipeline.name}/{stage.command}")
                if stage.num_splits and f"{pipeline.name}/{stage.command}" not in failed:
                    newest = max(self.ends[t.name] for t in stage.targets(pipeline.name))
                    self._file(stage.stamp(pipeline.name), "", newest)
        ended = max(self.ends.values()) + 0.1
        lines = [
            {
                "event": "begin",
                "time": BEGAN,
                "runner": "local",
                "jobs": self.jobs,
                "workdir": "../..",
            },
            {"event": "end", "time": ended, "began": BEGAN, "exit_code": int(bool(failed))},
        ]
        self._file(paths.RUNS, "".join(f"{json.dumps(line)}\n" for line in lines))

    def _ready(self, stage: Stage, target: Target) -> float:
        times = [BEGAN + 0.5]
        for need in stage.needs:
            if need.kind is NeedKind.ALIGNED:
                times.append(self.ends[f"{target.pipeline}/{need.command}/{target.split_ind}"])
            else:
                prefix = f"{target.pipeline}/{need.command}"
                times += [
                    t for n, t in self.ends.items() if n == prefix or n.startswith(f"{prefix}/")
                ]
        return max(times) + 0.01

    def _seconds(self, generator: random.Random, stage: Stage) -> float:
        usual = {
            "analyze": 3.0,
            "chip": 2.0,
            "clean": 0.8,
            "train": 14.0,
            "predict": 3.0,
            "eval": 2.5,
        }
        seconds = generator.lognormvariate(0, 0.35) * usual[stage.command]
        # A few take much longer.
        return seconds * (4 if stage.num_splits and generator.random() < 0.01 else 1)

    def _record(self, target: Target, began: float, ended: float) -> None:
        code = self.failing.get(target.name, 0)
        memory = 200_000 + 50_000 * (len(target.name) % 7) + (9_000_000 if code < 0 else 0)
        start = {"event": "start", "attempt": 1, "time": round(began, 3), "host": "node1", "pid": 7}
        end = {"attempt": 1, "time": round(ended, 3), "peak_memory_kib": memory}
        how = (
            {"event": "killed", "signal": -code}
            if code < 0
            else {"event": "end", "exit_code": code}
        )
        lines = [{**start, "log_offset": 0}, {**how, **end}]
        self._file(paths.record(target.path), "".join(f"{json.dumps(line)}\n" for line in lines))
        if code:
            text = (
                "reading tile 17\nTraceback (most recent call last):\nValueError: bad <tile> 17\n"
            )
            self._file(paths.log(target.path), text)
        else:
            self._file(f"{paths.DONE}/{target.path}", "", ended)

    def _file(self, path: str, text: str, time: float | None = None) -> None:
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
        if time is not None:
            os.utime(file, (time, time))


def made(
    folder: pathlib.Path, num_splits: int, *, jobs: int = 4, failing: Sequence[tuple[str, int]] = ()
) -> pathlib.Path:
    """Write a run directory with `3 * num_splits + 3` targets."""
    return Made(folder, plan_of(num_splits), jobs=jobs, failing=dict(failing)).write()
