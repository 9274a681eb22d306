"""boto3 uses moto's server and the engine through environment variables alone."""

from __future__ import annotations

import sys

import boto3.session
import pytest

from tests.conftest import Project
from tests.engines.batch import BatchEngine
from tests.engines.moto import Moto


def test_a_bucket(moto: Moto) -> None:
    """An object that is put can be read."""
    root = moto.bucket("data")
    moto.client("s3").put_object(Bucket="data", Key="a/b", Body=b"c")
    assert (root, moto.objects("data")) == ("s3://data", {"a/b": b"c"})


@pytest.mark.parametrize("again", [False, True])
def test_each_test_has_it_empty(moto: Moto, again: bool) -> None:
    """Nothing of another test is left."""
    assert moto.client("s3").list_buckets()["Buckets"] == []
    moto.bucket()


@pytest.mark.parametrize("service", ["sagemaker", "iam", "logs", "batch"])
def test_services(moto: Moto, service: str) -> None:
    """Other services of moto answer, too."""
    lists = {
        "sagemaker": ("list_pipelines", "PipelineSummaries"),
        "iam": ("list_roles", "Roles"),
        "logs": ("describe_log_groups", "logGroups"),
        "batch": ("describe_job_queues", "jobQueues"),
    }
    call, key = lists[service]
    assert isinstance(getattr(moto.client(service), call)()[key], list)


def test_jobs_reach_both_servers(moto: Moto, project: Project) -> None:
    """A job of the engine writes to moto's S3, and so does a program that a test starts."""
    moto.bucket("data")
    project.write(
        "put.py",
        "import boto3, sys\n"
        "boto3.client('s3').put_object(Bucket='data', Key=sys.argv[1], Body=b'x')\n"
        "print(boto3.client('batch').describe_job_queues()['jobQueues'][0]['jobQueueName'])\n",
    )
    with BatchEngine(environment=moto.variables) as engine:
        engine.add_queue("cpu")
        engine.add_definition("work", command=[sys.executable, f"{project.folder}/put.py", "job"])
        variables = {**moto.variables, **engine.variables}
        done = project.run(sys.executable, "put.py", "here", code=0, **variables)
        engine.client("batch").submit_job(jobName="a", jobQueue="cpu", jobDefinition="work")
        engine.wait()
        assert engine.statuses() == {"a": "SUCCEEDED"}
    assert (done.stdout, sorted(moto.objects("data"))) == ("cpu\n", ["here", "job"])


def test_environments_name_services_as_botocore_does(
    moto: Moto, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine's variables override moto's for its own services only."""
    with BatchEngine() as engine:
        for name, value in {**moto.variables, **engine.variables}.items():
            monkeypatch.setenv(name, value)
        session = boto3.session.Session()
        endpoints = {
            service: session.client(service).meta.endpoint_url
            for service in ("batch", "logs", "s3", "sagemaker")
        }
    own = engine.url
    assert endpoints == {"batch": own, "logs": own, "s3": moto.url, "sagemaker": moto.url}
