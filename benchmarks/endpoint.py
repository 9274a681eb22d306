"""A local stand-in for AWS Batch and S3 that answers every call after a fixed delay.

It stores nothing and runs nothing. It only counts calls and adds latency.
"""

from __future__ import annotations

import collections
import itertools
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self


class Endpoint:
    """An HTTP server on the loopback interface that delays every answer by `seconds`.

    `calls` counts the calls by operation.
    """

    def __init__(self, seconds: float) -> None:
        self.calls: collections.Counter[str] = collections.Counter()
        numbers, lock = itertools.count(), threading.Lock()
        calls = self.calls

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                body = self.rfile.read(length)
                time.sleep(seconds)
                is_batch = self.path.startswith("/v1/")
                operation = self.path.removeprefix("/v1/") if is_batch else f"s3 {self.command}"
                with lock:
                    calls[operation] += 1
                    number = next(numbers)
                reply = self.reply(operation, body, number)
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(reply)))
                self.end_headers()
                self.wfile.write(reply)

            do_POST = do_PUT = do_GET = answer  # noqa: N815 - names of the standard library

            def reply(self, operation: str, body: bytes, number: int) -> bytes:
                if operation != "submitjob":
                    return b""
                name = json.loads(body)["jobName"]
                return json.dumps({"jobName": name, "jobId": f"job-{number}"}).encode()

            def log_message(self, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def environment(self) -> dict[str, str]:
        """Environment variables that direct boto3 to this endpoint."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": "none",
            "AWS_SECRET_ACCESS_KEY": "none",
            "AWS_DEFAULT_REGION": "us-east-1",
        }

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._server.shutdown()
        self._server.server_close()
