"""IAM on loopback: the simulation of policies, which moto does not have, before moto's server.

    iam = Iam(moto.url)
    env = {**moto.variables, **iam.variables}

It evaluates the inline policies of a role: a statement allows an action on a resource if both
match, with `*` for anything, and denials win. Conditions hold if the request has their value.
"""

from __future__ import annotations

import fnmatch
import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from typing import Any, Self

from tests.engines.http import Reply, Request, Server
from tests.engines.moto import client

XMLNS = "https://iam.amazonaws.com/doc/2010-05-08/"


class Iam:
    """IAM with `SimulatePrincipalPolicy`; all other calls are moto's.

    - `denied`: operations that the caller may not call.
    """

    def __init__(self, moto: str, denied: tuple[str, ...] = ()) -> None:
        self._moto = moto
        self.denied = denied
        self._iam = client("iam", moto)
        self._server = Server(self._respond)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._server.close()

    @property
    def variables(self) -> dict[str, str]:
        return {"AWS_ENDPOINT_URL_IAM": self._server.url}

    def _respond(self, request: Request) -> Reply:
        fields = urllib.parse.parse_qs(request.body.decode())
        operation = fields["Action"][0]
        if operation in self.denied:
            return _error(f"User is not authorized to perform: iam:{operation}")
        if operation != "SimulatePrincipalPolicy":
            return self._forward(request)
        results = "".join(self._results(fields))
        body = (
            f'<{operation}Response xmlns="{XMLNS}"><{operation}Result><IsTruncated>false'
            f"</IsTruncated><EvaluationResults>{results}</EvaluationResults></{operation}Result>"
            f"<ResponseMetadata><RequestId>1</RequestId></ResponseMetadata></{operation}Response>"
        )
        return Reply(200, body.encode(), {"Content-Type": "text/xml"})

    def _forward(self, request: Request) -> Reply:
        skipped = {"host", "content-length", "connection"}
        headers = {k: v for k, v in request.headers.items() if k.lower() not in skipped}
        url = self._moto + request.path
        try:
            with urllib.request.urlopen(
                urllib.request.Request(url, request.body, headers, method=request.method)
            ) as reply:
                return Reply(reply.status, reply.read(), {"Content-Type": "text/xml"})
        except urllib.error.HTTPError as error:
            return Reply(error.code, error.read(), {"Content-Type": "text/xml"})

    def _results(self, fields: Mapping[str, list[str]]) -> Iterator[str]:
        role = fields["PolicySourceArn"][0].rpartition("/")[2]
        (resource,) = _members(fields, "ResourceArns.member.{}")
        context = dict(
            zip(
                _members(fields, "ContextEntries.member.{}.ContextKeyName"),
                _members(fields, "ContextEntries.member.{}.ContextKeyValues.member.1"),
                strict=True,
            )
        )
        statements = list(self._statements(role))
        for action in _members(fields, "ActionNames.member.{}"):
            effects = {
                statement["Effect"]
                for statement in statements
                if _applies(statement, action, resource, context)
            }
            decision = "explicitDeny" if "Deny" in effects else "implicitDeny"
            if effects == {"Allow"}:
                decision = "allowed"
            yield (
                f"<member><EvalActionName>{action}</EvalActionName>"
                f"<EvalDecision>{decision}</EvalDecision></member>"
            )

    def _statements(self, role: str) -> Iterator[dict[str, Any]]:
        for name in self._iam.list_role_policies(RoleName=role)["PolicyNames"]:
            policy = self._iam.get_role_policy(RoleName=role, PolicyName=name)
            yield from policy["PolicyDocument"]["Statement"]


def _members(fields: Mapping[str, list[str]], key: str) -> list[str]:
    """The items of a list in a request of the query protocol."""
    numbered = (fields.get(key.format(number)) for number in range(1, 100))
    return [values[0] for values in numbered if values]


def _applies(
    statement: Mapping[str, Any], action: str, resource: str, context: Mapping[str, str]
) -> bool:
    conditions: Mapping[str, Mapping[str, str]] = statement.get("Condition", {})
    return (
        any(fnmatch.fnmatchcase(action, glob) for glob in _listed(statement["Action"]))
        and any(fnmatch.fnmatchcase(resource, glob) for glob in _listed(statement["Resource"]))
        and all(
            context.get(key) == value
            for values in conditions.values()
            for key, value in values.items()
        )
    )


def _listed(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value


def _error(message: str) -> Reply:
    body = (
        f'<ErrorResponse xmlns="{XMLNS}"><Error><Type>Sender</Type><Code>AccessDenied</Code>'
        f"<Message>{json.dumps(message)[1:-1]}</Message></Error><RequestId>1</RequestId>"
        "</ErrorResponse>"
    )
    return Reply(403, body.encode(), {"Content-Type": "text/xml"})
