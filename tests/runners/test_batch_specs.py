"""Specs of AWS Batch jobs: their exact text, what settings say where, and all that is refused."""

from __future__ import annotations

import json
import pathlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import attrs
import pytest

from rvrun.aws import request_check as shapes
from rvrun.model import Command, DeclaredPipeline, Resources
from rvrun.plan.compile import compile_plan
from rvrun.plan.splits import parse_splits
from rvrun.remote.upload import Shipment
from rvrun.render.jinja import BadTemplate
from rvrun.runners.batch.limits import RUN
from rvrun.runners.batch.specs import BadSpec, Source, render_specs
from rvrun.runners.batch.submit import Ticket
from rvrun.runners.problems import Unfit
from rvrun.settings.overrides import NoMatch
from rvrun.settings.schema import BatchCommandSettings, BatchSettings
from tests.build import DIGEST, need, pipeline
from tests.conftest import ROOT, Project
from tests.engines.batch import BatchEngine

BATCH = BatchSettings(
    cpu_job_queue="cpu", cpu_job_def="work", gpu_job_queue="gpu", gpu_job_def="work-gpu"
)


def said(**changed: Any) -> BatchSettings:
    return attrs.evolve(BATCH, **changed)


def declared(name: str = "p", **commands: Mapping[str, Any]) -> DeclaredPipeline:
    """A pipeline of commands given as what `Command` takes; needs as in `tests.build.need`."""
    made = []
    for command, facts in commands.items():
        needs = {"needs": tuple(map(need, facts["needs"]))} if "needs" in facts else {}
        made.append(Command(name=command, **{**facts, **needs}))
    return DeclaredPipeline(name=name, config_digest=DIGEST, commands=tuple(made))


def shipment(name: str) -> Shipment:
    uri = f"s3://bucket/{name}/rvrun/config/{name}-0123456789abcdef.json"
    return Shipment(config_uri=uri, files={})


def source(*pipelines: DeclaredPipeline, settings: BatchSettings = BATCH, **more: Any) -> Source:
    return Source(
        **{
            "settings": settings,
            "shipments": {each.name: shipment(each.name) for each in pipelines},
            "names": [f"{each.name}/{c.name}" for each in pipelines for c in each.commands],
            "settings_file": "rvrun.toml",
            "run_name": "night",
            **more,
        }
    )


def rendered(
    *pipelines: DeclaredPipeline, splits: Sequence[str] = ("2",), **more: Any
) -> dict[str, str]:
    plan = compile_plan(list(pipelines), splits=parse_splits(splits))
    return render_specs(plan, source(*pipelines, **more))


def requests(*pipelines: DeclaredPipeline, **more: Any) -> dict[str, dict[str, Any]]:
    """The requests by their jobs' keys."""
    found = map(json.loads, rendered(*pipelines, **more).values())
    return {each["tags"]["rvrun:job"]: each for each in found}


def findings(*pipelines: DeclaredPipeline, **more: Any) -> list[str]:
    with pytest.raises(Unfit) as caught:
        rendered(*pipelines, **more)
    return list(caught.value.findings)


#: CPU and GPU, split and not, aligned, with all that a pipeline itself may ask for.
RASTER = declared(
    "rv",
    analyze={},
    chip={"is_split": True, "resources": Resources(vcpus=2, memory_mib=4096)},
    train={"gpu": True, "resources": Resources(gpus=4, timeout_seconds=86_400)},
    predict={"is_split": True, "gpu": True},
    vote={"is_split": True, "needs": ["=predict", "chip"]},
    eval={"needs": ["vote"], "resources": Resources(job_queue="own", job_def="own:3")},
    bundle={"needs": ["train"]},
)
ALL = said(
    vcpus=1,
    memory_mib=2048,
    gpus=1,
    attempts=3,
    retry="spot",
    timeout_seconds=3600,
    share_identifier="maps",
    scheduling_priority=7,
    tags={"team": "maps", "cost": "a/b: c@d"},
    environment={"ZONE": "ü", "A": 'say "$HOME"'},
    commands={
        "predict": BatchCommandSettings(vcpus=8, attempts=5, retry="any", tags={"cost": "p"}),
        "rv/*e*": BatchCommandSettings(environment={"A": "e", "EXTRA": "1"}),
        "bundle": BatchCommandSettings(job_queue="other", job_def="other", share_identifier="x*"),
    },
)


# What is rendered.


def golden_text(files: Mapping[str, str]) -> str:
    return "".join(f"{path}\n{text}\n" for path, text in files.items())


def test_golden_of_a_plain_pipeline(golden: Callable[[str, str], None]) -> None:
    """Nothing said but queues and definitions; two parts, and a join of three needs."""
    first = pipeline("tiny.v2", "chip*", "sum", "look", needs={"look": ["chip", "sum"]})
    golden("plain.batch.txt", golden_text(rendered(first, splits=["10001"])))


def test_golden_of_all_settings(golden: Callable[[str, str], None]) -> None:
    """CPU and GPU, aligned, overrides by glob and by the pipeline, tags, variables, retries."""
    second = pipeline("tiny", "only*")
    files = rendered(RASTER, second, splits=["4", "tiny/only=1"], settings=ALL)
    golden("all.batch.txt", golden_text(files))


def test_the_bytes_are_the_same(tmp_path: pathlib.Path) -> None:
    """Whatever the order in which tables are written."""
    turned = attrs.evolve(
        ALL,
        tags=dict(reversed(ALL.tags.items())),
        environment=dict(reversed(ALL.environment.items())),
    )
    assert rendered(RASTER, settings=turned) == rendered(RASTER, settings=ALL)


@pytest.fixture(scope="module")
def engine(processes: None) -> Iterator[BatchEngine]:
    """It takes jobs and runs none."""
    with BatchEngine(slots=0) as engine:
        for name in ("cpu", "gpu", "own", "other"):
            engine.add_queue(name, fair_share=True)
            engine.add_queue(f"{name}-plain")
        for name in ("work", "work-gpu", "own", "other"):
            for _ in range(3):
                engine.add_definition(name)
        yield engine


def plain(settings: BatchSettings) -> BatchSettings:
    """The same on queues without shares."""
    return attrs.evolve(
        settings,
        share_identifier=None,
        scheduling_priority=None,
        cpu_job_queue="cpu-plain",
        gpu_job_queue="gpu-plain",
    )


CHAIN = pipeline("chain", *(f"c{number}" for number in range(45)))
STAR = declared(
    "star",
    **{f"c{number}": {"needs": []} for number in range(45)},
    last={"is_split": True, "needs": [f"c{number}" for number in range(45)]},
)
HALVES = declared("halves", a={"is_split": True}, b={"is_split": True, "needs": ["=a"]})


@pytest.mark.parametrize(
    ("pipelines", "splits", "settings"),
    [
        ([RASTER], ["4"], ALL),
        ([RASTER], ["1"], ALL),
        ([CHAIN], [], plain(BATCH)),
        ([STAR], ["3"], plain(BATCH)),
        ([HALVES], ["20000"], plain(BATCH)),
        ([pipeline(f"p{number}", "a*", "b") for number in range(25)], ["5"], plain(BATCH)),
    ],
)
def test_batch_takes_every_spec(
    engine: BatchEngine,
    pipelines: Sequence[DeclaredPipeline],
    splits: Sequence[str],
    settings: BatchSettings,
) -> None:
    """In the order of the files, ids filled in: by botocore's model, and by the engine's rules."""
    batch = engine.client("batch")
    ids: dict[str, str] = {}
    for key, request in requests(*pipelines, splits=splits, settings=settings).items():
        ticket = Ticket(key=key, round=1, request=request)
        filled = ticket.filled("night-20260102-030405-abcd", ids)
        assert "${" not in json.dumps(filled)
        assert shapes.problems("batch", "SubmitJob", filled) == []
        ids[key] = batch.submit_job(**filled)["jobId"]


def test_files_are_in_the_order_of_submission() -> None:
    """Also where there are more than nine, or a hundred."""
    for pipelines in ([CHAIN], [STAR], [CHAIN, STAR, RASTER]):
        files = rendered(*pipelines)
        assert sorted(files) == list(files)
        seen = set()
        for request in map(json.loads, files.values()):
            assert {each["jobId"] for each in request.get("dependsOn", ())} <= seen
            seen.add(f"${{{request['tags']['rvrun:job']}}}")
    assert next(iter(rendered(CHAIN))) == "batch/01-chain-c0.json"


def test_the_parts_of_many_splits_are_told_which() -> None:
    """A whole array needs not be told."""
    found = requests(HALVES, splits=["20000"])
    told = {key: each["containerOverrides"].get("environment") for key, each in found.items()}
    assert told == {
        f"halves/{name}.{part}": [{"name": "RVRUN_SPLITS", "value": splits}]
        for name in "ab"
        for part, splits in enumerate(["0-9999", "10000-19999"])
    }
    whole = requests(HALVES, splits=["10000"])["halves/a"]
    assert "environment" not in whole["containerOverrides"]


def test_joins_do_next_to_nothing() -> None:
    """On the CPU queue, with what both EC2 and Fargate have, whatever stages ask for."""
    join = requests(STAR, settings=said(vcpus=64, memory_mib=99_999, gpus=8))["star/last.needs.2"]
    assert join == {
        "jobName": f"{RUN}-star-last-needs-2",
        "jobQueue": "cpu",
        "jobDefinition": "work",
        "dependsOn": [{"jobId": f"${{star/c{number}}}"} for number in range(40, 45)],
        "containerOverrides": {
            "resourceRequirements": [
                {"type": "VCPU", "value": "1"},
                {"type": "MEMORY", "value": "2048"},
            ],
            "command": ["true"],
        },
        "propagateTags": True,
        "tags": {"rvrun:run": RUN, "rvrun:job": "star/last.needs.2"},
    }


def test_retries_after_reclaimed_instances_only() -> None:
    """What no condition matches would be tried again, so the last one ends all else."""
    one = pipeline("p", "a")
    assert "retryStrategy" not in requests(one)["p/a"]
    assert requests(one, settings=said(attempts=2))["p/a"]["retryStrategy"] == {"attempts": 2}
    assert requests(one, settings=said(attempts=2, retry="spot"))["p/a"]["retryStrategy"] == {
        "attempts": 2,
        "evaluateOnExit": [
            {"onStatusReason": "Host EC2*", "action": "RETRY"},
            {"onReason": "*", "action": "EXIT"},
        ],
    }


# Who says what.


@pytest.mark.parametrize(
    ("glob", "own", "wanted"),
    [
        ({}, {}, ("gpu", "work-gpu", "1")),
        ({}, {"job_queue": "own"}, ("own", "work-gpu", "1")),
        ({}, {"job_queue": "own", "job_def": "own", "vcpus": 2}, ("own", "own", "2")),
        ({"job_queue": "glob", "vcpus": 3}, {"job_queue": "own", "job_def": "own", "vcpus": 2},
         ("glob", "own", "3")),
    ],
)  # fmt: skip
def test_settings_go_over_each_other(
    glob: dict[str, Any], own: dict[str, Any], wanted: tuple[str, str, str]
) -> None:
    """A glob over what the pipeline says, that over `[batch]`."""
    one = declared(train={"gpu": True, "resources": Resources(**own)})
    settings = said(vcpus=1, commands={"train": BatchCommandSettings(**glob)})
    request = requests(one, settings=settings)["p/train"]
    (vcpus,) = request["containerOverrides"]["resourceRequirements"]
    assert (request["jobQueue"], request["jobDefinition"], vcpus["value"]) == wanted


def test_gpus_of_the_settings_are_for_gpu_commands() -> None:
    """A CPU command on a queue without any would wait for ever."""
    two = declared(chip={}, train={"gpu": True})
    found = requests(two, settings=said(gpus=2))
    assert "resourceRequirements" not in found["p/chip"]["containerOverrides"]
    assert found["p/train"]["containerOverrides"]["resourceRequirements"] == [
        {"type": "GPU", "value": "2"}
    ]


def test_a_glob_that_matches_nothing() -> None:
    """It is an error, also where the command is there but was not selected this time."""
    settings = said(commands={"c*": BatchCommandSettings(), "pedict": BatchCommandSettings()})
    with pytest.raises(NoMatch, match=r'^\[batch.commands."pedict"\] matches no command; '):
        rendered(pipeline("p", "chip", "predict"), settings=settings)
    both = pipeline("p", "chip", "predict")
    plan = compile_plan([both], select=["chip"])
    known = said(commands={"predict": BatchCommandSettings(vcpus=2)})
    assert len(render_specs(plan, source(both, settings=known))) == 1


# What is refused, before the first call.


def test_missing_queues_and_definitions() -> None:
    """Each with its key, the file looked in and the environment variable; all stages at once."""
    two = declared(chip={"is_split": True}, train={"gpu": True})
    settings = BatchSettings(cpu_job_queue="cpu", gpu_job_def="work")
    with pytest.raises(Unfit) as caught:
        rendered(two, settings=settings)
    assert str(caught.value) == (
        "not fit for AWS Batch, 2 findings:\n"
        "  p/chip: no job definition; set `batch.cpu_job_def` in rvrun.toml, or "
        "RVRUN_BATCH_CPU_JOB_DEF in the environment\n"
        "  p/train: no job queue; set `batch.gpu_job_queue` in rvrun.toml, or "
        "RVRUN_BATCH_GPU_JOB_QUEUE in the environment"
    )


def test_what_a_glob_or_the_pipeline_names_is_not_missing() -> None:
    """No general queue is needed where each command has its own."""
    two = declared(a={"resources": Resources(job_queue="own", job_def="own")}, b={})
    settings = BatchSettings(commands={"b": BatchCommandSettings(job_queue="q", job_def="d")})
    assert [each["jobQueue"] for each in requests(two, settings=settings).values()] == ["own", "q"]


def test_what_settings_say_and_cannot_be() -> None:
    """All stages, all at once."""
    three = declared(a={}, b={"resources": Resources(gpus=2)}, c={"gpu": True})
    settings = said(
        retry="spot",
        environment={"RVRUN_SPLITS": "1-2"},
        commands={"c": BatchCommandSettings(attempts=2), "b": BatchCommandSettings(retry="any")},
    )
    taken = "RVRUN_SPLITS in `environment` is what rvrun itself tells jobs; take it out"
    assert findings(three, settings=settings) == [
        "p/a: `retry` is spot, but nothing says how often; set `batch.attempts` in rvrun.toml, or "
        "RVRUN_BATCH_ATTEMPTS in the environment",
        f"p/a: {taken}",
        "p/b: asks for 2 GPUs on the queue of CPU jobs, `cpu`; name it in `gpu_commands`, or give "
        "it another `job_queue`",
        f"p/b: {taken}",
        f"p/c: {taken}",
    ]


def overrides_of(length: int) -> BatchSettings:
    """Settings whose overrides of the command `a` of the pipeline `p` are so long."""
    short = requests(pipeline("p", "a"), settings=said(environment={"LONG": "x"}))["p/a"]
    size = len(json.dumps(short["containerOverrides"], separators=(",", ":")))
    return said(environment={"LONG": "x" * (length - size + 1)})


def test_overrides_of_8193_characters() -> None:
    """One too many; 8,192 are taken, and not too many for the engine either."""
    one = pipeline("p", "a")
    assert findings(one, settings=overrides_of(8193)) == [
        "p/a: its command and environment have 8,193 characters as JSON, and at most 8,192 are "
        "allowed; shorten `batch.environment`, or put what is long into the job definition"
    ]
    assert len(rendered(one, settings=overrides_of(8192))) == 1


def test_a_request_of_more_than_30_kib() -> None:
    """Tags and what is written with escapes add up."""
    tags = {f"{number:02}" + "k" * 126: "v" * 256 for number in range(48)}
    (finding,) = findings(
        pipeline("p", "a"), settings=said(tags=tags, environment={"A": "ü" * 2000})
    )
    assert re.fullmatch(
        r"p/a: the request has 3\d,\d{3} bytes, and at most 30,720 are allowed", finding
    )


def test_names_with_room_for_retries() -> None:
    """A job's name must not become too long when it is tried again."""
    extra = len("-20260102-030405-abcd") + len("-p-") + len("-r99")
    one = declared(a={}, **{"a" * 50: {}})
    most = "n" * (128 - extra - 50)
    assert len(rendered(one, run_name=most)) == 2
    assert findings(one, run_name=f"{most}n") == [
        f"p/{'a' * 50}: the job's name has up to 129 characters in a run named `{most}n` and its "
        "retries, and at most 128 are allowed; give a shorter --run-name, or a shorter pipeline "
        "name"
    ]


def test_every_other_limit() -> None:
    """Of one job, all at once."""
    settings = said(
        attempts=11,
        timeout_seconds=59,
        share_identifier="my-team",
        scheduling_priority=10_000,
        tags={
            "aws:x": "1",
            "k" * 129: "v" * 257,
            "odd": "a & b",
            **{f"t{number}": "" for number in range(46)},
        },
        environment={
            "AWS_BATCH_JOB_ID": "1",
            "EMPTY": "",
            "API_TOKEN": "x",
            "AWS_SECRET_ACCESS_KEY": "x",
        },
    )
    secret = (
        "looks like a secret, and everybody who may describe a job can read it; put it into "
        "`secrets` of the job definition"
    )
    assert findings(pipeline("p", "a"), settings=settings) == [
        f"p/a: environment variable `API_TOKEN` {secret}",
        "p/a: Batch drops the environment variable `AWS_BATCH_JOB_ID`, for it begins with "
        "AWS_BATCH",
        f"p/a: environment variable `AWS_SECRET_ACCESS_KEY` {secret}",
        "p/a: environment variable `EMPTY` is empty, which Batch does not take",
        "p/a: 11 attempts are not one of 1 to 10",
        "p/a: a timeout of 59 s is less than 60 s, the least that Batch takes",
        "p/a: share identifier 'my-team' is not up to 255 letters and digits, which `*` may follow",
        "p/a: scheduling priority 10000 is not one of 0 to 9999",
        "p/a: 51 tags, with rvrun's own, are more than 50",
        "p/a: tag `aws:x` begins with `aws:`, which AWS keeps for itself",
        f"p/a: tag `{'k' * 129}` has 129 characters, and 1 to 128 are allowed",
        f"p/a: the value of tag `{'k' * 129}` has 257 characters, and at most 256 are allowed",
        "p/a: tag `odd` is 'a & b', and no more than letters, digits, spaces and _.:/=+-@ are "
        "allowed",
    ]


def test_findings_are_those_of_all_stages() -> None:
    """A pipeline's own timeout is checked as one of the settings is."""
    two = declared(
        a={"resources": Resources(timeout_seconds=1)}, b={"resources": Resources(timeout_seconds=2)}
    )
    assert [each.partition(" s is")[0] for each in findings(two)] == [
        "p/a: a timeout of 1",
        "p/b: a timeout of 2",
    ]


# Templates of the user's.

OWN = (ROOT / "templates" / "batch" / "batch-job.json.j2").read_text(encoding="utf-8")


def with_template(folder: pathlib.Path, text: str, **more: Any) -> dict[str, dict[str, Any]]:
    (folder / "batch-job.json.j2").write_text(text, encoding="utf-8")
    two = declared(a={"is_split": True}, b={"needs": ["a"]})
    return requests(two, templates=str(folder), **more)


def test_a_template_of_the_users(tmp_path: pathlib.Path) -> None:
    """It may add what rvrun knows nothing of, and wrap the command."""
    text = OWN.replace(
        '"propagateTags": true,',
        '"propagateTags": false, "parameters": {"stage": {{ job.name | json }}},',
    ).replace('"command": {{', '"command": {{ ["nice"] | json }}, "command": {{')
    found = with_template(tmp_path, text)
    assert found["p/b"]["parameters"] == {"stage": "${run}-p-b"}
    assert found["p/b"]["dependsOn"] == [{"jobId": "${p/a}"}]


@pytest.mark.parametrize(
    ("before", "after", "error", "message"),
    [
        ('"jobName"', '"jobName', BadSpec, "template batch-job.json.j2 gives no JSON for p/a: "),
        (OWN, "[]", BadSpec, "gives no request with a `jobName` for p/a"),
        ('"jobName"', '"name"', BadSpec, "gives no request with a `jobName` for p/a"),
        ("{{ job.name | json }}", '"mine"', BadSpec, "must give a `jobName` with ${run} and the "
         "tags of `job.tags` for p/a: by these it is found"),
        ('"tags": {', '"tags": null, "other": {', BadSpec, "the tags of `job.tags` for p/a"),
        ('"tags": {', '"tags": {"n": 1, ', BadSpec, "the tags of `job.tags` for p/a"),
        ("{% for key, value in job.tags.items() %}",
         "{% for key, value in (job.tags.items() | list)[1:] %}", BadSpec,
         "the tags of `job.tags` for p/a"),
        ("{{ job.name | json }}", "{{ job.nam | json }}", BadTemplate, "has no attribute 'nam'"),
        ("{% if", "{% iff", BadTemplate, "batch-job.json.j2:7: "),
    ],
)  # fmt: skip
def test_templates_that_give_no_spec(
    tmp_path: pathlib.Path, before: str, after: str, error: type[Exception], message: str
) -> None:
    """The error names the template and the job."""
    assert before in OWN
    with pytest.raises(error) as caught:
        with_template(tmp_path, OWN.replace(before, after))
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("before", "after", "wanted"),
    [
        ('"jobQueue"', '"queue"',
         ["p/a: jobQueue is missing", "p/a: queue is unknown", "p/b: jobQueue is missing",
          "p/b: queue is unknown"]),
        ('"propagateTags": true', '"propagateTags": "true"',
         ["p/a: propagateTags is 'true', not true or false", "p/b: propagateTags is 'true'"]),
        ('{"size": {{ job.size }}}', '{"size": "2"}',
         ["p/a: arrayProperties.size is '2', not a whole number"]),
        ('"containerOverrides": {', '"retryStrategy": null, "containerOverrides": {',
         ["p/a: retryStrategy is None, not an object", "p/b: retryStrategy is None"]),
        ('{"size": {{ job.size }}}', '{"size": 3}',
         ["p/a: template batch-job.json.j2 must give `job.size`, 2, as the size of its array"]),
        ("{{ depends | json }}", '{"jobId": "${p/c}"}',
         ["p/b: template batch-job.json.j2 must give all of `job.depends` as `dependsOn`",
          "p/b: template batch-job.json.j2 gives a dependency on ${p/c}, which is not known"]),
        ("{{ job.command | json }}", '["true", ""]',
         ["p/a: template batch-job.json.j2 must give all words of `job.command` in `command`",
          "p/a: its command holds an empty text, which Batch does not take",
          "p/b: template batch-job.json.j2 must give all words of", "p/b: its command holds"]),
        ("{% if job.environment %}", "{% if false %}",
         ["p/a: template batch-job.json.j2 must give all of `job.environment` as `environment`",
          "p/b: template batch-job.json.j2 must give all of `job.environment`"]),
    ],
)  # fmt: skip
def test_templates_that_give_bad_specs(
    tmp_path: pathlib.Path, before: str, after: str, wanted: list[str]
) -> None:
    """Keys and types as the model of SubmitJob has them, and nothing left out that matters."""
    assert before in OWN
    with pytest.raises(Unfit) as caught:
        with_template(tmp_path, OWN.replace(before, after), settings=said(environment={"A": "1"}))
    found = caught.value.findings
    assert len(found) == len(wanted)
    for finding, beginning in zip(found, wanted, strict=True):
        assert finding.startswith(beginning)


# As typed.

SETTINGS = """
[batch]
cpu_job_queue = "cpu"
cpu_job_def = "work"
"""


@pytest.fixture
def written(tiny: Project) -> Project:
    """A project whose specs can be rendered."""
    tiny.write("rvrun.toml", SETTINGS)
    return tiny


WORDS = ("tiny.py", "--splits", "2", "-a", "root_uri", "s3://bucket/tiny")


def test_rendering_writes_specs_and_what_jobs_read(written: Project) -> None:
    """Nothing is called; a second time nothing changes, and what is no more is removed."""
    done = written.rvrun("render", "batch", *WORDS)
    files = sorted(path.name for path in (written.folder / "runs/tiny/batch").iterdir())
    assert files == [
        "1-tiny-cut.json",
        "2-tiny-count.json",
        "3-tiny-sum.json",
        "4-tiny-show.json",
        "uploads",
        "uploads.json",
    ]  # fmt: skip
    assert "written    runs/tiny/batch/1-tiny-cut.json" in done.stderr
    uploads = json.loads(written.read("runs/tiny/batch/uploads.json"))
    for uri, path in uploads.items():
        assert uri.startswith("s3://bucket/tiny/rvrun/")
        assert (written.folder / "runs/tiny" / path).is_file()
    spec = json.loads(written.read("runs/tiny/batch/1-tiny-cut.json"))
    assert spec["containerOverrides"]["command"][2] in uploads
    again = written.rvrun("render", "batch", *WORDS)
    assert "written" not in again.stderr
    written.rvrun("render", "batch", *WORDS, "count")
    left = sorted(path.name for path in (written.folder / "runs/tiny/batch").glob("*tiny*"))
    assert left == ["1-tiny-count.json"]


def test_saved_specs_are_checked(written: Project) -> None:
    """A spec that would be another now, or is no more, is told; the saved plan is as it was."""
    words = ("plan", *WORDS, "--runner", "batch")
    written.rvrun(*words, "--out", "plans/tiny")
    written.rvrun(*words, "--check", "plans/tiny")
    written.write("plans/tiny/batch/5-tiny-old.json", "{}\n")
    done = written.rvrun(*words, "--check", "plans/tiny", code=1)
    assert done.stderr == "not as rendered now: plans/tiny/batch/5-tiny-old.json\n"
    (written.folder / "plans/tiny/batch/5-tiny-old.json").unlink()
    written.write("rvrun.toml", SETTINGS.replace('"work"', '"work:2"'))
    done = written.rvrun(*words, "--check", "plans/tiny", code=1)
    assert "not as rendered now: plans/tiny/batch/1-tiny-cut.json" in done.stderr


def test_a_local_root_is_refused(written: Project) -> None:
    """Before anything is written."""
    done = written.rvrun("run", "batch", "tiny.py", "-a", "root_uri", "out", code=2)
    assert done.stderr == (
        "rvrun: jobs of AWS Batch run on other machines, which reach s3:// URIs but no folder of "
        "this one: `tiny` has out for `root_uri`; give such as s3://BUCKET/FOLDER\n"
    )
    assert not (written.folder / "runs").exists()


def test_a_missing_queue_as_typed(tiny: Project) -> None:
    """The settings' names are Raster Vision's; each has a variable."""
    done = tiny.rvrun("render", "batch", *WORDS, "sum", code=2, RVRUN_BATCH_CPU_JOB_DEF="work")
    assert done.stderr == (
        "rvrun: not fit for AWS Batch, 1 finding:\n"
        "  tiny/sum: no job queue; set `batch.cpu_job_queue` in rvrun.toml (there is none yet), or "
        "RVRUN_BATCH_CPU_JOB_QUEUE in the environment\n"
    )


def test_no_secret_of_this_machine_is_in_a_spec(written: Project) -> None:
    """Nothing of the environment in which it is rendered enters what is rendered."""
    written.rvrun(
        "render", "batch", *WORDS, AWS_SECRET_ACCESS_KEY="hidden-1", MY_PASSWORD="hidden-2"
    )
    texts = [path.read_text() for path in (written.folder / "runs").rglob("*") if path.is_file()]
    assert not any("hidden" in text or str(written.folder) in text for text in texts)
