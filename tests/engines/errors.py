"""Errors with which a service answers."""

from __future__ import annotations


class ServiceError(Exception):
    """An error with which the service answers; `status` is the HTTP status."""

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = status
