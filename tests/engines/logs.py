"""The part of CloudWatch Logs that finds and reads streams: GetLogEvents, DescribeLogStreams."""

from __future__ import annotations

import itertools
import time
from typing import Any

import attrs

from tests.engines.errors import ServiceError

GROUP = "/aws/batch/job"
PAGE = 10_000


@attrs.frozen
class Event:
    """A line of a log; the timestamp is in milliseconds since 1970."""

    timestamp: int
    message: str

    def to_json(self) -> dict[str, Any]:
        time = self.timestamp
        return {"timestamp": time, "message": self.message, "ingestionTime": time}


def now() -> int:
    """The time in milliseconds since 1970."""
    return time.time_ns() // 1_000_000


class Logs:
    """The streams of one log group, each a list of events.

    With `gaps` a page may be empty although more follow, as the service allows itself.
    """

    def __init__(self, group: str = GROUP, *, gaps: bool = False) -> None:
        self.group = group
        self.streams: dict[str, list[Event]] = {}
        self.gaps = gaps

    def write(self, stream: str, line: str) -> None:
        """Add a line; an empty line creates the stream but is not an event."""
        events = self.streams.setdefault(stream, [])
        if line:
            events.append(Event(now(), line))

    def get(self, request: dict[str, Any]) -> dict[str, Any]:
        """A page of a stream. At either end the token that was passed is returned."""
        events = self._events(request)
        limit = min(request.get("limit", PAGE), PAGE)
        token = request.get("nextToken")
        if token is None:
            start = 0 if request.get("startFromHead") else max(0, len(events) - limit)
            return _page(events, start, start + limit)
        direction, at, *gap = token.split("/")
        if direction not in {"f", "b"} or not at.isdecimal():
            raise ServiceError("InvalidParameterException", "The specified nextToken is invalid.")
        position = int(at)
        if direction == "b":
            return _page(events, max(0, position - limit), position)
        if self.gaps and not gap and position < len(events):
            return {**_page(events, position, position), "nextForwardToken": f"f/{position}/gap"}
        page = _page(events, position, position + limit)
        return page if page["events"] else {**page, "nextForwardToken": token}

    def describe(self, request: dict[str, Any]) -> dict[str, Any]:
        """The streams whose names begin with the prefix, in order; with `gaps` one per page."""
        self._check_group(request)
        prefix = request.get("logStreamNamePrefix", "")
        names = sorted(name for name in self.streams if name.startswith(prefix))
        start, size = int(request.get("nextToken", "0")), 1 if self.gaps else 50
        page: dict[str, Any] = {
            "logStreams": [{"logStreamName": name} for name in names[start : start + size]]
        }
        return {**page, "nextToken": str(start + size)} if names[start + size :] else page

    def _check_group(self, request: dict[str, Any]) -> None:
        if request.get("logGroupName", request.get("logGroupIdentifier")) != self.group:
            raise ServiceError(
                "ResourceNotFoundException", "The specified log group does not exist."
            )

    def _events(self, request: dict[str, Any]) -> list[Event]:
        self._check_group(request)
        if request.get("logStreamName") not in self.streams:
            raise ServiceError(
                "ResourceNotFoundException", "The specified log stream does not exist."
            )
        start, end = request.get("startTime", 0), request.get("endTime")
        events = self.streams[request["logStreamName"]]
        return [e for e in events if start <= e.timestamp and (end is None or e.timestamp < end)]


def _page(events: list[Event], start: int, end: int) -> dict[str, Any]:
    page = [event.to_json() for event in itertools.islice(events, start, end)]
    return {
        "events": page,
        "nextForwardToken": f"f/{start + len(page)}",
        "nextBackwardToken": f"b/{start}",
    }
