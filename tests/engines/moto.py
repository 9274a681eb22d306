"""moto's server on loopback, for boto3 in this and other processes: S3, SageMaker, IAM and more."""

from __future__ import annotations

import functools
import urllib.request
from typing import Any

import boto3
import boto3.session
from botocore.config import Config

REGION = "us-east-1"
#: Credentials without any access, and nothing that leads to others.
DUMMY = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_SESSION_TOKEN": "testing",
    "AWS_DEFAULT_REGION": REGION,
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": "/nonexistent",
    "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent",
}


@functools.cache
def session() -> boto3.session.Session:
    """One session for all clients of tests, because it caches the services' models."""
    return boto3.session.Session()


def client(service: str, url: str, **config: Any) -> Any:
    """A boto3 client of the server at `url`; without `retries` it makes each call once."""
    return session().client(
        service,
        endpoint_url=url,
        region_name=REGION,
        aws_access_key_id="testing",
        aws_secret_access_key="testing",
        config=Config(**{"retries": {"total_max_attempts": 1}, **config}),
    )


class Moto:
    """moto's server, on a free port."""

    def __init__(self) -> None:
        from moto.server import ThreadedMotoServer  # importing it takes a second

        self._server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        self._server.start()
        host, port = self._server.get_host_and_port()
        self.url = f"http://{host}:{port}"

    @property
    def variables(self) -> dict[str, str]:
        """The environment in which boto3 uses this server for every service."""
        return {**DUMMY, "AWS_ENDPOINT_URL": self.url}

    def client(self, service: str) -> Any:
        return client(service, self.url)

    def bucket(self, name: str = "bucket") -> str:
        """Create a bucket and return its URI."""
        self.client("s3").create_bucket(Bucket=name)
        return f"s3://{name}"

    def objects(self, bucket: str = "bucket") -> dict[str, bytes]:
        """The contents of a bucket, by key."""
        s3 = self.client("s3")
        pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket)
        keys = [entry["Key"] for page in pages for entry in page.get("Contents", ())]
        return {key: s3.get_object(Bucket=bucket, Key=key)["Body"].read() for key in keys}

    def reset(self) -> None:
        """Delete everything."""
        request = urllib.request.Request(f"{self.url}/moto-api/reset", method="POST")
        with urllib.request.urlopen(request):
            pass

    def close(self) -> None:
        self._server.stop()
