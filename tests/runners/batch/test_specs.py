"""Specs of AWS Batch jobs: their exact bytes, which setting wins, and what is refused."""

from __future__ import annotations

import json
import pathlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import attrs
import pytest

from rvrun.aws import request_check
from rvrun.model import Command, DeclaredPipeline, Resources
from rvrun.plan.compile import compile_plan
from rvrun.plan.splits import parse_splits
from rvrun.remote.upload import Upload
from rvrun.render.jinja import BadTemplate
from rvrun.runners.batch.render import render_specs
from rvrun.runners.batch.settings import BatchCommandSettings, BatchSettings
from rvrun.runners.batch.spec_files import RUN, Spec
from rvrun.runners.batch.specs import Source
from rvrun.runners.batch.validate import BadSpec
from rvrun.runners.problems import Unfit
from rvrun.settings.overrides import NoMatch
from tests.build import DIGEST, need, pipeline
from tests.conftest import ROOT, Project
from tests.engines.batch import BatchEngine

BATCH = BatchSettings(
    cpu_job_queue="cpu", cpu_job_def="work", gpu_job_queue="gpu", gpu_job_def="work-gpu"
)


def changed(**settings: Any) -> BatchSettings:
    return attrs.evolve(BATCH, **settings)


def declared(name: str = "p", **commands: Mapping[str, Any]) -> DeclaredPipeline:
    """A pipeline of commands, given by the arguments of `Command`; needs as in `build.need`."""
    made = []
    for command, arguments in commands.items():
        needs = {"needs": tuple(map(need, arguments["needs"]))} if "needs" in arguments else {}
        made.append(Command(name=command, **{**arguments, **needs}))
    return DeclaredPipeline(name=name, config_digest=DIGEST, commands=tuple(made))


def upload(name: str) -> Upload:
    uri = f"s3://bucket/{name}/rvrun/config/{name}-0123456789abcdef.json"
    return Upload(config_uri=uri, files={})


def source(*pipelines: DeclaredPipeline, settings: BatchSettings = BATCH, **more: Any) -> Source:
    return Source(
        **{
            "settings": settings,
            "uploads": {declared.name: upload(declared.name) for declared in pipelines},
            "command_names": [f"{p.name}/{c.name}" for p in pipelines for c in p.commands],
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


def requests(*pipelines: DeclaredPipeline, **more: Any) -> dict[str, Any]:
    """The requests by their jobs' keys."""
    read = map(json.loads, rendered(*pipelines, **more).values())
    return {request["tags"]["rvrun:job"]: request for request in read}


def problems(*pipelines: DeclaredPipeline, **more: Any) -> list[str]:
    with pytest.raises(Unfit) as caught:
        rendered(*pipelines, **more)
    return list(caught.value.problems)


#: CPU and GPU, split and not, aligned, with everything that a pipeline can set itself.
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
ALL = changed(
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
    """Only queues and definitions are set; one stage has two parts."""
    first = pipeline("tiny.v2", "chip*", "sum", "look", needs={"look": ["chip", "sum"]})
    golden("plain.batch.txt", golden_text(rendered(first, splits=["10001"])))


def test_golden_of_all_settings(golden: Callable[[str, str], None]) -> None:
    """CPU and GPU, aligned, overrides by glob and by the pipeline, tags, variables, retries."""
    second = pipeline("tiny", "only*")
    files = rendered(RASTER, second, splits=["4", "tiny/only=1"], settings=ALL)
    golden("all.batch.txt", golden_text(files))


def test_the_bytes_are_the_same(tmp_path: pathlib.Path) -> None:
    """The order of entries in tables of the settings does not matter."""
    turned = attrs.evolve(
        ALL,
        tags=dict(reversed(ALL.tags.items())),
        environment=dict(reversed(ALL.environment.items())),
    )
    assert rendered(RASTER, settings=turned) == rendered(RASTER, settings=ALL)


@pytest.fixture(scope="module")
def engine() -> Iterator[BatchEngine]:
    """An engine that accepts jobs and runs none."""
    with BatchEngine(slots=0) as engine:
        for name in ("cpu", "gpu", "own", "other"):
            engine.add_queue(name, fair_share=True)
            engine.add_queue(f"{name}-plain")
        for name in ("work", "work-gpu", "own", "other"):
            for _ in range(3):
                engine.add_definition(name)
        yield engine


def plain(settings: BatchSettings) -> BatchSettings:
    """The same settings for queues without a scheduling policy."""
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
@pytest.mark.usefixtures("processes")
def test_batch_accepts_every_spec(
    engine: BatchEngine,
    pipelines: Sequence[DeclaredPipeline],
    splits: Sequence[str],
    settings: BatchSettings,
) -> None:
    """In the order of the files, with ids: botocore's model and the engine's rules are met."""
    batch = engine.client("batch")
    ids: dict[str, str] = {}
    for key, request in requests(*pipelines, splits=splits, settings=settings).items():
        spec = Spec(key=key, round=1, request=request)
        filled = spec.fill_in("night-20260102-030405-abcd", ids)
        assert "${" not in json.dumps(filled)
        assert request_check.problems("batch", "SubmitJob", filled) == []
        ids[key] = batch.submit_job(**filled)["jobId"]


def test_files_are_in_the_order_of_submission() -> None:
    """Also if there are more than nine specs, or more than a hundred."""
    for pipelines in ([CHAIN], [STAR], [CHAIN, STAR, RASTER]):
        files = rendered(*pipelines)
        assert sorted(files) == list(files)
        seen: set[str] = set()
        for request in map(json.loads, files.values()):
            assert {need["jobId"] for need in request.get("dependsOn", ())} <= seen
            seen.add(f"${{{request['tags']['rvrun:job']}}}")
    assert next(iter(rendered(CHAIN))) == "batch/01-chain-c0.json"


def test_parts_of_many_splits_get_their_splits() -> None:
    """The array of a whole stage needs no list."""
    specs = requests(HALVES, splits=["20000"])
    environments = {
        key: spec["containerOverrides"].get("environment") for key, spec in specs.items()
    }
    assert environments == {
        f"halves/{name}.{part}": [{"name": "RVRUN_SPLITS", "value": splits}]
        for name in "ab"
        for part, splits in enumerate(["0-9999", "10000-19999"])
    }
    whole = requests(HALVES, splits=["10000"])["halves/a"]
    assert "environment" not in whole["containerOverrides"]


def test_joins_do_next_to_nothing() -> None:
    """They go to the CPU queue, with resources that EC2 and Fargate offer, whatever stages need."""
    settings = changed(vcpus=64, memory_mib=99_999, gpus=8)
    join = requests(STAR, settings=settings)["star/last.needs.2"]
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
        "retryStrategy": {"attempts": 1},
        "propagateTags": True,
        "tags": {"rvrun:run": RUN, "rvrun:job": "star/last.needs.2"},
    }


def test_a_job_is_attempted_once_by_default() -> None:
    """Also if its definition has retries, which write the chips of Raster Vision twice."""
    assert requests(pipeline("p", "a"))["p/a"]["retryStrategy"] == {"attempts": 1}


def test_retries_after_reclaimed_instances_only() -> None:
    """Batch retries what no condition matches, so the last condition matches everything."""
    one = pipeline("p", "a")
    assert requests(one, settings=changed(attempts=2))["p/a"]["retryStrategy"] == {"attempts": 2}
    assert requests(one, settings=changed(attempts=2, retry="spot"))["p/a"]["retryStrategy"] == {
        "attempts": 2,
        "evaluateOnExit": [
            {"onStatusReason": "Host EC2*", "action": "RETRY"},
            {"onReason": "*", "action": "EXIT"},
        ],
    }


# Which setting wins.


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
def test_precedence_of_settings(
    glob: dict[str, Any], own: dict[str, Any], wanted: tuple[str, str, str]
) -> None:
    """A glob overrides the pipeline's resources, which override `[batch]`."""
    one = declared(train={"gpu": True, "resources": Resources(**own)})
    settings = changed(vcpus=1, commands={"train": BatchCommandSettings(**glob)})
    request = requests(one, settings=settings)["p/train"]
    (vcpus,) = request["containerOverrides"]["resourceRequirements"]
    assert (request["jobQueue"], request["jobDefinition"], vcpus["value"]) == wanted


def test_gpus_of_the_settings_are_for_gpu_commands() -> None:
    """A CPU command that requires GPUs on a queue without any would wait forever."""
    two = declared(chip={}, train={"gpu": True})
    specs = requests(two, settings=changed(gpus=2))
    assert "resourceRequirements" not in specs["p/chip"]["containerOverrides"]
    assert specs["p/train"]["containerOverrides"]["resourceRequirements"] == [
        {"type": "GPU", "value": "2"}
    ]


def test_a_glob_that_matches_nothing() -> None:
    """It is an error, but not if the command exists and was only not selected."""
    settings = changed(commands={"c*": BatchCommandSettings(), "pedict": BatchCommandSettings()})
    with pytest.raises(NoMatch, match=r'^\[batch.commands."pedict"\] matches no command; '):
        rendered(pipeline("p", "chip", "predict"), settings=settings)
    both = pipeline("p", "chip", "predict")
    plan = compile_plan([both], select=["chip"])
    settings = changed(commands={"predict": BatchCommandSettings(vcpus=2)})
    assert len(render_specs(plan, source(both, settings=settings))) == 1


# What is refused, before the first call.


def test_missing_queues_and_definitions() -> None:
    """Each with its key, the file and the environment variable; all stages in one error."""
    two = declared(chip={"is_split": True}, train={"gpu": True})
    settings = BatchSettings(cpu_job_queue="cpu", gpu_job_def="work")
    with pytest.raises(Unfit) as caught:
        rendered(two, settings=settings)
    assert str(caught.value) == (
        "AWS Batch would not accept this plan, 2 problems:\n"
        "  p/chip: no job definition; set `batch.cpu_job_def` in rvrun.toml, or "
        "RVRUN_BATCH_CPU_JOB_DEF in the environment\n"
        "  p/train: no job queue; set `batch.gpu_job_queue` in rvrun.toml, or "
        "RVRUN_BATCH_GPU_JOB_QUEUE in the environment"
    )


def test_what_a_glob_or_the_pipeline_names_is_not_missing() -> None:
    """No general queue is required if all commands have their own."""
    two = declared(a={"resources": Resources(job_queue="own", job_def="own")}, b={})
    settings = BatchSettings(commands={"b": BatchCommandSettings(job_queue="q", job_def="d")})
    queues = [request["jobQueue"] for request in requests(two, settings=settings).values()]
    assert queues == ["own", "q"]


def test_settings_that_contradict_each_other() -> None:
    """All problems of all stages are reported in one error."""
    three = declared(a={}, b={"resources": Resources(gpus=2)}, c={"gpu": True})
    settings = changed(
        retry="spot",
        environment={"RVRUN_SPLITS": "1-2"},
        commands={"c": BatchCommandSettings(attempts=2), "b": BatchCommandSettings(retry="any")},
    )
    reserved = "`environment` must not set RVRUN_SPLITS, which rvrun sets itself; remove it"
    assert problems(three, settings=settings) == [
        'p/a: `retry = "spot"` requires `attempts`; set `batch.attempts` in rvrun.toml, or '
        "RVRUN_BATCH_ATTEMPTS in the environment",
        f"p/a: {reserved}",
        "p/b: requires 2 GPUs, but goes to the queue of CPU jobs, `cpu`; add it to "
        "`gpu_commands`, or set another `job_queue` for it",
        f"p/b: {reserved}",
        f"p/c: {reserved}",
    ]


def overrides_of(length: int) -> BatchSettings:
    """Settings with which the overrides of the job `p/a` have that many characters."""
    short = requests(pipeline("p", "a"), settings=changed(environment={"LONG": "x"}))["p/a"]
    size = len(json.dumps(short["containerOverrides"], separators=(",", ":")))
    return changed(environment={"LONG": "x" * (length - size + 1)})


def test_overrides_of_8193_characters() -> None:
    """One too many: 8,192 are accepted, by the engine too."""
    one = pipeline("p", "a")
    assert problems(one, settings=overrides_of(8193)) == [
        "p/a: command and environment must have at most 8,192 characters as JSON, got 8,193; "
        "shorten `batch.environment`, or move long values to the job definition"
    ]
    assert len(rendered(one, settings=overrides_of(8192))) == 1


def test_a_request_of_more_than_30_kib() -> None:
    """Tags, and characters that JSON escapes, add up."""
    tags = {f"{number:02}" + "k" * 126: "v" * 256 for number in range(48)}
    (problem,) = problems(
        pipeline("p", "a"), settings=changed(tags=tags, environment={"A": "ü" * 2000})
    )
    assert re.fullmatch(r"p/a: the request must have at most 30,720 bytes, got 3\d,\d{3}", problem)


def test_names_with_room_for_retries() -> None:
    """A job's name must not become too long in a retry."""
    extra = len("-20260102-030405-abcd") + len("-p-") + len("-r99")
    one = declared("p", a={}, **{"a" * 50: {}})
    most = "n" * (128 - extra - 50)
    assert len(rendered(one, run_name=most)) == 2
    assert problems(one, run_name=f"{most}n") == [
        f"p/{'a' * 50}: job names must have at most 128 characters, got 129 in a run named "
        f"`{most}n` and its retries; use a shorter --run-name, or a shorter pipeline name"
    ]


def test_every_other_limit() -> None:
    """All problems of a job are reported in one error."""
    settings = changed(
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
        "looks like a secret, which everybody who can describe the job can read; move it to "
        "`secrets` in the job definition"
    )
    assert problems(pipeline("p", "a"), settings=settings) == [
        f"p/a: environment variable `API_TOKEN` {secret}",
        "p/a: environment variable names must not begin with AWS_BATCH, got `AWS_BATCH_JOB_ID`, "
        "which Batch would drop; rename it",
        f"p/a: environment variable `AWS_SECRET_ACCESS_KEY` {secret}",
        "p/a: environment variable `EMPTY` must not be empty; set a value, or remove it",
        "p/a: attempts must be between 1 and 10, got 11",
        "p/a: timeout must be at least 60 s, got 59 s",
        "p/a: share identifier must have 1 to 255 letters and digits, and may end with `*`, got "
        "'my-team'",
        "p/a: scheduling priority must be between 0 and 9999, got 10000",
        "p/a: a job must have at most 50 tags, with rvrun's own, got 51",
        "p/a: tag names must not begin with `aws:`, got `aws:x`",
        f"p/a: tag names must have 1 to 128 characters, got 129: `{'k' * 129}`",
        f"p/a: tag values must have at most 256 characters, got 257 for `{'k' * 129}`",
        "p/a: tags must contain only letters, digits, spaces and _.:/=+-@, got 'a & b' for `odd`",
    ]


def test_problems_of_all_stages() -> None:
    """A timeout that the pipeline sets is checked like one of the settings."""
    two = declared(
        a={"resources": Resources(timeout_seconds=1)}, b={"resources": Resources(timeout_seconds=2)}
    )
    assert problems(two) == [
        "p/a: timeout must be at least 60 s, got 1 s",
        "p/b: timeout must be at least 60 s, got 2 s",
    ]


# Users' templates.

SHIPPED = (ROOT / "templates" / "batch" / "batch-job.json.j2").read_text(encoding="utf-8")
#: A template without the filter `request`, as users have written them: plain JSON with commas.
PLAIN_JSON = """
{
  "jobName": {{ job.name | json }},
  "jobQueue": {{ job.queue | json }},
  "jobDefinition": {{ job.definition | json }},
{% if job.size is not none %}
  "arrayProperties": {"size": {{ job.size }}},
{% endif %}
{% if job.depends %}
  "dependsOn": [
{% for depends in job.depends %}
    {{ depends | json }}{{ "" if loop.last else "," }}
{% endfor %}
  ],
{% endif %}
  "containerOverrides": {
{% if job.resources %}
    "resourceRequirements": {{ job.resources | json }},
{% endif %}
{% if job.environment %}
    "environment": {{ job.environment | json }},
{% endif %}
    "command": {{ job.command | json }}
  },
{% if job.retry_strategy %}
  "retryStrategy": {{ job.retry_strategy | json }},
{% endif %}
{% if job.timeout_seconds is not none %}
  "timeout": {"attemptDurationSeconds": {{ job.timeout_seconds }}},
{% endif %}
{% if job.share_identifier is not none %}
  "shareIdentifier": {{ job.share_identifier | json }},
{% endif %}
{% if job.scheduling_priority is not none %}
  "schedulingPriorityOverride": {{ job.scheduling_priority }},
{% endif %}
  "propagateTags": true,
  "tags": {
{% for key, value in job.tags.items() %}
    {{ key | json }}: {{ value | json }}{{ "" if loop.last else "," }}
{% endfor %}
  }
}
"""


def with_template(folder: pathlib.Path, text: str, **more: Any) -> dict[str, Any]:
    (folder / "batch-job.json.j2").write_text(text, encoding="utf-8")
    two = declared(a={"is_split": True}, b={"needs": ["a"]})
    return requests(two, templates=str(folder), **more)


def replaced(template: str, before: str, after: str) -> str:
    assert before in template
    return template.replace(before, after)


def test_a_template_of_plain_json(tmp_path: pathlib.Path) -> None:
    """Templates that write the JSON themselves give the same requests as the filter `request`."""
    (tmp_path / "batch-job.json.j2").write_text(PLAIN_JSON, encoding="utf-8")
    for settings in (BATCH, ALL):
        own = requests(RASTER, settings=settings, templates=str(tmp_path))
        assert own == requests(RASTER, settings=settings)


@pytest.mark.parametrize(
    "template",
    [
        replaced(
            replaced(SHIPPED, "true,", 'false, "parameters": {"stage": job.name},'),
            '"command": job.command',
            '"command": ["nice"] + job.command',
        ),
        replaced(
            replaced(PLAIN_JSON, "true,", 'false, "parameters": {"stage": {{ job.name | json }}},'),
            '"command": {{ job.command',
            '"command": {{ (["nice"] + job.command)',
        ),
    ],
)
def test_a_users_template(tmp_path: pathlib.Path, template: str) -> None:
    """It may add members that rvrun does not set, change others, and wrap the command."""
    request = with_template(tmp_path, template)["p/b"]
    assert request["parameters"] == {"stage": "${run}-p-b"}
    assert request["propagateTags"] is False
    assert request["containerOverrides"]["command"][:2] == ["nice", "rvrun"]
    assert request["dependsOn"] == [{"jobId": "${p/a}"}]


def test_a_dependency_of_a_template(tmp_path: pathlib.Path) -> None:
    """It may add dependencies on jobs by id, which stay as they are, and one without an id."""
    more = '[{"jobId": "1234"}, {"type": "SEQUENTIAL"}]'
    template = SHIPPED.replace("job.depends or none", f"job.depends + {more}")
    request = with_template(tmp_path, template)["p/b"]
    spec = Spec(key="p/b", round=1, request=request)
    assert spec.depends == ("p/a",)
    assert spec.fill_in("night-1", {"p/a": "5678"})["dependsOn"] == [
        {"jobId": "5678"},
        {"jobId": "1234"},
        {"type": "SEQUENTIAL"},
    ]


RENDERS = "template batch-job.json.j2 must render"
NO_NAME = f"{RENDERS} an object with a `jobName`, for job p/a"
NO_TAGS = f"{RENDERS} a `jobName` with ${{run}} and the tags of `job.tags`, for job p/a"


@pytest.mark.parametrize(
    ("template", "error", "message"),
    [
        ("[]", BadSpec, NO_NAME),
        (replaced(SHIPPED, '"jobName"', '"name"'), BadSpec, NO_NAME),
        (replaced(SHIPPED, '"jobName": job.name', '"jobName": "mine"'), BadSpec, NO_TAGS),
        (replaced(SHIPPED, '"tags": job.tags', '"tags": none'), BadSpec, NO_TAGS),
        (replaced(SHIPPED, '"tags": job.tags', '"tags": {"n": 1}'), BadSpec, NO_TAGS),
        (replaced(SHIPPED, "job.name", "job.nam"), BadTemplate,
         "template batch-job.json.j2: 'rvrun.runners.batch.specs.TemplateJob object' has no "
         "attribute 'nam'"),
        (replaced(PLAIN_JSON, '"jobName"', '"jobName'), BadSpec,
         f"{RENDERS} JSON, but it is not JSON (Expecting ':' delimiter: line 3 column 14 "
         "(char 16)), for job p/a"),
        (replaced(PLAIN_JSON, '"tags": {', '"tags": null, "other": {'), BadSpec, NO_TAGS),
        (replaced(PLAIN_JSON, '"tags": {', '"tags": {"n": 1, '), BadSpec, NO_TAGS),
        (replaced(PLAIN_JSON, "{% for key, value in job.tags.items() %}",
         "{% for key, value in (job.tags.items() | list)[1:] %}"), BadSpec, NO_TAGS),
        (replaced(PLAIN_JSON, "{{ job.name | json }}", "{{ job.nam | json }}"), BadTemplate,
         "template batch-job.json.j2: 'rvrun.runners.batch.specs.TemplateJob object' has no "
         "attribute 'nam'"),
        (replaced(PLAIN_JSON, "{% if", "{% iff"), BadTemplate,
         "template FOLDER/batch-job.json.j2:6: Encountered unknown tag 'iff'."),
    ],
)  # fmt: skip
def test_templates_that_render_no_spec(
    tmp_path: pathlib.Path, template: str, error: type[Exception], message: str
) -> None:
    """The error names the template and the job."""
    with pytest.raises(error) as caught:
        with_template(tmp_path, template)
    assert str(caught.value).replace(str(tmp_path), "FOLDER").startswith(message)


MUST = "template batch-job.json.j2 must"


@pytest.mark.parametrize(
    ("template", "messages"),
    [
        (replaced(SHIPPED, '"jobQueue"', '"queue"'),
         ["p/a: jobQueue is required", "p/a: queue is unknown; did you mean 'jobQueue'?",
          "p/b: jobQueue is required", "p/b: queue is unknown; did you mean 'jobQueue'?"]),
        (replaced(SHIPPED, '"propagateTags": true', '"propagateTags": "true"'),
         ["p/a: propagateTags must be true or false, got 'true'",
          "p/b: propagateTags must be true or false, got 'true'"]),
        (replaced(SHIPPED, '{"size": job.size}', '{"size": job.size and "2"}'),
         ["p/a: arrayProperties.size must be an integer, got '2'"]),
        (replaced(PLAIN_JSON, "{{ job.retry_strategy | json }}", "null"),
         ["p/a: retryStrategy must be an object, got None",
          "p/b: retryStrategy must be an object, got None"]),
        (replaced(SHIPPED, '{"size": job.size}', '{"size": job.size and 3}'),
         [f"p/a: {MUST} use `job.size`, 2, as the array size"]),
        (replaced(PLAIN_JSON, '{"size": {{ job.size }}}', "{}"),
         [f"p/a: {MUST} use `job.size`, 2, as the array size"]),
        (replaced(SHIPPED, '"dependsOn": job.depends or none',
         '"dependsOn": [{"jobId": "${p/c}"}] if job.depends else none'),
         [f"p/b: {MUST} use all of `job.depends` in `dependsOn`",
          f"p/b: {MUST} not depend on ${{p/c}}, which is not in `job.depends`"]),
        (replaced(SHIPPED, '"command": job.command', '"command": ["true", ""]'),
         [f"p/a: {MUST} use all words of `job.command` in `command`",
          "p/a: command must not contain empty strings",
          f"p/b: {MUST} use all words of `job.command` in `command`",
          "p/b: command must not contain empty strings"]),
        (replaced(SHIPPED, '"environment": job.environment or none,', ""),
         [f"p/a: {MUST} use all of `job.environment` in `environment`",
          f"p/b: {MUST} use all of `job.environment` in `environment`"]),
    ],
)  # fmt: skip
def test_templates_that_render_bad_specs(
    tmp_path: pathlib.Path, template: str, messages: list[str]
) -> None:
    """Members and types must be those of SubmitJob's model, and nothing important left out."""
    with pytest.raises(Unfit) as caught:
        with_template(tmp_path, template, settings=changed(environment={"A": "1"}))
    assert list(caught.value.problems) == messages


# The command line.

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
    """Without calls to AWS. The second time changes nothing, except to remove obsolete files."""
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
    remaining = sorted(path.name for path in (written.folder / "runs/tiny/batch").glob("*tiny*"))
    assert remaining == ["1-tiny-count.json"]


def test_saved_specs_are_checked(written: Project) -> None:
    """`plan --check` names each spec that would be rendered differently now, or not at all."""
    words = ("plan", *WORDS, "--runner", "batch")
    written.rvrun(*words, "--out", "plans/tiny")
    written.rvrun(*words, "--check", "plans/tiny")
    written.write("plans/tiny/batch/5-tiny-old.json", "{}\n")
    done = written.rvrun(*words, "--check", "plans/tiny", code=1)
    assert done.stderr == "out of date: plans/tiny/batch/5-tiny-old.json\n"
    (written.folder / "plans/tiny/batch/5-tiny-old.json").unlink()
    written.write("rvrun.toml", SETTINGS.replace('"work"', '"work:2"'))
    done = written.rvrun(*words, "--check", "plans/tiny", code=1)
    assert "out of date: plans/tiny/batch/1-tiny-cut.json" in done.stderr


def test_a_local_root_is_refused(written: Project) -> None:
    """It is refused before anything is written."""
    done = written.rvrun("run", "batch", "tiny.py", "-a", "root_uri", "out", code=2)
    assert done.stderr == (
        "rvrun: jobs of AWS Batch run on other machines, which can access s3:// URIs but not the "
        "directories of this one: `tiny` has out as `root_uri`; use one such as s3://BUCKET/FOLDER\n"
    )
    assert not (written.folder / "runs").exists()


def test_a_missing_queue_as_typed(tiny: Project) -> None:
    """The message names the setting, the file that would have it, and the environment variable."""
    done = tiny.rvrun("render", "batch", *WORDS, "sum", code=2, RVRUN_BATCH_CPU_JOB_DEF="work")
    assert done.stderr == (
        "rvrun: AWS Batch would not accept this plan, 1 problem:\n"
        "  tiny/sum: no job queue; set `batch.cpu_job_queue` in rvrun.toml (not there yet), or "
        "RVRUN_BATCH_CPU_JOB_QUEUE in the environment\n"
    )


def test_no_secret_of_this_machine_is_in_a_spec(written: Project) -> None:
    """Rendered files contain nothing of the environment in which they are rendered."""
    written.rvrun(
        "render", "batch", *WORDS, AWS_SECRET_ACCESS_KEY="hidden-1", MY_PASSWORD="hidden-2"
    )
    texts = [path.read_text() for path in (written.folder / "runs").rglob("*") if path.is_file()]
    assert not any("hidden" in text or str(written.folder) in text for text in texts)
