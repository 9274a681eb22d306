"""What a service refuses."""

from __future__ import annotations


class ServiceError(Exception):
    """An error that the service answers with; `status` is HTTP's."""

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = status
