"""Which of several jobs of a spec counts, and which are duplicates."""

from __future__ import annotations

import itertools
import pathlib
from collections.abc import Callable, Sequence
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rvrun.aws.client import Client, Refused
from rvrun.remote import ledger as ledgers
from rvrun.runners.batch.api import JobDetail, SubmitJobRequest
from rvrun.runners.batch.inventory import DUPLICATE_REASON, choose, take_inventory
from rvrun.runners.batch.spec_files import Spec, placeholder


def spec(key: str, *needs: str) -> Spec:
    request = {"jobName": key, "dependsOn": [{"jobId": placeholder(need)} for need in needs]}
    return Spec(key=key, round=1, request=cast("SubmitJobRequest", request))


def job(id_: str, created: int = 0, needs: Sequence[str] = (), **more: Any) -> JobDetail:
    detail = {
        "jobId": id_,
        "createdAt": created,
        "dependsOn": [{"jobId": need} for need in needs],
        **more,
    }
    return cast("JobDetail", detail)


SPECS = [spec("chip"), spec("train", "chip")]


@pytest.mark.parametrize(
    ("chips", "trains", "in_ledger", "ids", "duplicates"),
    [
        # The oldest, and by id if they are of one age.
        ([job("c1", 2), job("c2", 1)], [], {}, {"chip": "c2"}, ["c1"]),
        ([job("c2", 1), job("c1", 1)], [], {}, {"chip": "c1"}, ["c2"]),
        # The one in the ledger, whatever its age.
        ([job("c1", 1), job("c2", 2)], [], {"chip": "c2"}, {"chip": "c2"}, ["c1"]),
        # The one that another depends on.
        (
            [job("c1", 1), job("c2", 2)],
            [job("t1", 3, ["c2"])],
            {"chip": "c1"},
            {"chip": "c2", "train": "t1"},
            ["c1"],
        ),
        # Dependents are chosen first, so their own duplicates keep nothing alive.
        (
            [job("c1", 1), job("c2", 2)],
            [job("t1", 3, ["c1"]), job("t2", 4, ["c2"])],
            {"train": "t2"},
            {"chip": "c2", "train": "t2"},
            ["c1", "t1"],
        ),
        # Not one that rvrun ended.
        (
            [job("c1", 1, statusReason=DUPLICATE_REASON), job("c2", 2)],
            [],
            {},
            {"chip": "c2"},
            ["c1"],
        ),
        ([job("c1", 1, isTerminated=True), job("c2", 2)], [], {}, {"chip": "c2"}, ["c1"]),
        # Batch has forgotten it, or does not describe it yet.
        ([], [], {"chip": "c9"}, {"chip": "c9"}, []),
        ([job("c1")], [], {"chip": "damaged"}, {"chip": "c1"}, []),
    ],
)
def test_the_job_that_counts(
    chips: list[JobDetail],
    trains: list[JobDetail],
    in_ledger: dict[str, str],
    ids: dict[str, str],
    duplicates: list[str],
) -> None:
    """The one needed by others, else the one in the ledger, else the oldest."""
    candidates = {"chip": chips, "train": trains}
    for some in itertools.permutations(chips):
        chosen, others = choose(SPECS, {**candidates, "chip": some}, in_ledger)
        assert chosen == ids
        assert sorted(duplicate.job["jobId"] for duplicate in others) == duplicates


@given(st.data())
def test_nothing_that_is_needed_is_a_duplicate(data: st.DataObject) -> None:
    """For any jobs: each spec that has some keeps one, with all that it depends on."""
    names = ("a", "b", "c", "d")
    specs = [spec(name, *names[:index]) for index, name in enumerate(names)]
    candidates: dict[str, list[JobDetail]] = {}
    for index, name in enumerate(names):
        earlier = [[other["jobId"] for other in candidates[need]] for need in names[:index]]
        candidates[name] = [
            job(
                f"{name}{number}",
                data.draw(st.integers(0, 3)),
                [data.draw(st.sampled_from(ids)) for ids in earlier if ids],
            )
            for number in range(data.draw(st.integers(0, 3)))
        ]
    all_ids = {name: [j["jobId"] for j in jobs] for name, jobs in candidates.items()}
    noted = data.draw(st.sets(st.sampled_from(names)))
    in_ledger = {
        name: data.draw(st.sampled_from(ids))
        for name, ids in all_ids.items()
        if ids and name in noted
    }
    chosen, duplicates = choose(specs, candidates, in_ledger)
    ended = {duplicate.job["jobId"] for duplicate in duplicates}
    assert chosen.keys() == {name for name, ids in all_ids.items() if ids}
    assert ended.isdisjoint(chosen.values())
    for j in itertools.chain(*candidates.values()):
        if j["jobId"] not in ended:
            assert ended.isdisjoint(need["jobId"] for need in j["dependsOn"])


class Batch(Client):
    """A client whose calls are answered by a function."""

    def __init__(self, answer: Callable[..., Any]) -> None:
        super().__init__("batch", None)
        object.__setattr__(self, "answer", answer)

    def call(self, operation: str, **params: Any) -> dict[str, Any]:
        answer: dict[str, Any] = self.answer(operation, **params)  # type: ignore[attr-defined]
        return answer


@pytest.mark.parametrize(
    ("queues", "is_gone"),
    [([], True), ([{"status": "DELETED"}], True), ([{"status": "VALID"}], False), ([{}], False)],
)
def test_only_a_queue_that_does_not_exist_has_no_jobs(
    queues: list[dict[str, str]], is_gone: bool, tmp_path: pathlib.Path
) -> None:
    """Batch has one code for most refusals; taken for an empty queue, it would hide jobs."""

    def answer(operation: str, **params: Any) -> dict[str, Any]:
        if operation == "ListJobs":
            raise Refused("batch", operation, "ClientException", "no")
        assert (operation, params) == ("DescribeJobQueues", {"jobQueues": ["cpu"]})
        return {"jobQueues": queues}

    run = ledgers.create(tmp_path, "run", "batch", {}, {})
    tags = {"rvrun:run": "${run}", "rvrun:job": "chip"}
    request = cast("SubmitJobRequest", {"jobName": "${run}-chip", "jobQueue": "cpu", "tags": tags})
    specs = {1: [Spec(key="chip", round=1, request=request)]}
    if is_gone:
        assert take_inventory(run, Batch(answer), specs).ids == {1: {}}
    else:
        with pytest.raises(Refused, match="ListJobs"):
            take_inventory(run, Batch(answer), specs)
