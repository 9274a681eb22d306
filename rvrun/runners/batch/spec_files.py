"""Specs: SubmitJob requests as JSON files, with placeholders for what is only known later.

`${run}` stands for the run's id, and `${tiny/chip}` for the id of the job with that key.
"""

from __future__ import annotations

import pathlib
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import attrs

from rvrun import split_ranges
from rvrun.environment import SPLITS
from rvrun.inputs import parse_json, read_object
from rvrun.remote.ledger import RESTORE, DamagedRun, Ledger, reading
from rvrun.runners.batch.api import JobDependency, SubmitJobRequest

#: The folder of specs, in a run directory and in a round of a ledger.
FOLDER = "batch"
#: The placeholder for the run's id.
RUN = "${run}"
#: The tags by which a submitted job is recognized.
RUN_TAG, JOB_TAG = "rvrun:run", "rvrun:job"
#: How `jobs` names the jobs that only join others.
_JOIN = re.compile(r"\.(needs|aligned)\.\d+$")


def placeholder(key: str) -> str:
    """Return the placeholder for the id of the job with that key."""
    return f"${{{key}}}"


def key_of(dependency: JobDependency) -> str | None:
    """Return the key of the job whose placeholder a dependency has; None if it has an id or none.

    Users' templates may add such dependencies.
    """
    job_id = dependency.get("jobId", "")
    return job_id[2:-1] if job_id.startswith("${") else None


def stage_of(key: str) -> str:
    """Return the stage of the job with that key: `tiny/chip` for `tiny/chip.1`."""
    pipeline, _, rest = key.partition("/")
    return f"{pipeline}/{rest.partition('.')[0]}"


def plain(key: str) -> str:
    """Return a job's key as names of jobs and files contain it: `tiny-chip-1` for `tiny/chip.1`."""
    return re.sub(r"[^A-Za-z0-9_]", "-", key)


def file_names(keys: Iterable[str]) -> list[str]:
    """Return the specs' paths, such as `batch/01-tiny-chip.json`.

    They are numbered in the order of submission, so that sorting restores it.
    """
    keys = list(keys)
    width = len(str(len(keys)))
    return [
        f"{FOLDER}/{number:0{width}}-{plain(key)}.json" for number, key in enumerate(keys, start=1)
    ]


def is_spec(path: str) -> bool:
    """Whether a rendered file, by its relative path, is a spec."""
    folder, _, name = path.rpartition("/")
    return folder == FOLDER and name[:1].isdigit()


def requests_in(files: Mapping[str, str]) -> Iterator[SubmitJobRequest]:
    """Yield the requests of the specs among rendered files."""
    return (parse_json(text, path) for path, text in files.items() if is_spec(path))


@attrs.frozen(kw_only=True)
class Spec:
    """A spec of one round of a run. The first round is 1, each retry is another.

    - `key`: of its job in the plan, such as `tiny/chip`.
    """

    key: str
    round: int
    request: SubmitJobRequest

    @property
    def depends(self) -> tuple[str, ...]:
        """The keys of the jobs whose ids the request needs."""
        keys = map(key_of, self.request.get("dependsOn", ()))
        return tuple(key for key in keys if key is not None)

    @property
    def size(self) -> int | None:
        """The number of children of its array; None for a plain job."""
        return self.request.get("arrayProperties", {}).get("size")

    @property
    def is_join(self) -> bool:
        """Whether its job does nothing but join others."""
        return _JOIN.search(self.key) is not None

    @property
    def stage(self) -> str:
        return stage_of(self.key)

    @property
    def num_targets(self) -> int:
        return self.size or 1

    @property
    def splits(self) -> list[int] | None:
        """The splits that its children run, in their order; None if the stage is not split."""
        overrides = self.request["containerOverrides"]
        if "--num-splits" not in overrides.get("command", ()):
            return None
        for variable in overrides.get("environment", ()):
            if variable["name"] == SPLITS:
                return split_ranges.read(variable["value"])
        return list(range(self.num_targets))

    def target(self, child: int) -> str:
        """Return the name of the target that a child runs, by its index in the array."""
        splits = self.splits
        return self.stage if splits is None else f"{self.stage}/{splits[child]}"

    def fill_in(self, run_id: str, ids: Mapping[str, str]) -> SubmitJobRequest:
        """Return the request with the run's id and, by key, the ids of jobs it depends on."""
        tags = {name: value.replace(RUN, run_id) for name, value in self.request["tags"].items()}
        name = self.request["jobName"].replace(RUN, run_id)
        request: SubmitJobRequest = {**self.request, "jobName": name, "tags": tags}
        if self.depends:
            dependencies = self.request["dependsOn"]
            request["dependsOn"] = [_with_id(dependency, ids) for dependency in dependencies]
        return request


def read_specs(ledger: Ledger, number: int) -> list[Spec]:
    """Return the specs of a round, in the order of submission.

    Raises `CannotRead` or `DamagedRun`.
    """
    folder = ledger.round_folder(number) / FOLDER
    specs = [
        _read_spec(ledger.run_id, number, path)
        for path in sorted(folder.glob("*.json"))
        if is_spec(f"{FOLDER}/{path.name}")
    ]
    if not specs:
        raise DamagedRun(str(folder), "has no job specs")
    return specs


def _read_spec(run_id: str, number: int, path: pathlib.Path) -> Spec:
    request: Any = read_object(str(path), RESTORE)
    with reading(str(path)):
        spec = Spec(key=request["tags"][JOB_TAG], round=number, request=request)
        # Read once here, so that a damaged spec is found before anything is asked or submitted.
        if spec.num_targets != len(spec.splits or ()) and spec.splits is not None:
            raise ValueError("the size of its array is not the number of its splits")
        names = (spec.fill_in(run_id, {})["jobName"], spec.stage)
        if not all(isinstance(name, str) for name in (*names, *spec.depends)):
            raise TypeError("names must be strings")
    return spec


def _with_id(dependency: JobDependency, ids: Mapping[str, str]) -> JobDependency:
    key = key_of(dependency)
    return dependency if key is None or key not in ids else {**dependency, "jobId": ids[key]}
