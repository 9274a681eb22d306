"""The role that pipelines and jobs run as: its ARN, or its name alone, as Raster Vision has it."""

from __future__ import annotations

from rvrun.aws.client import Client

#: Stands for the account of a role whose name alone is said, until the run is submitted.
ACCOUNT = "000000000000"
_ARN = "arn:"


def is_name(role: str) -> bool:
    """Whether it is a name without an account."""
    return not role.startswith(_ARN)


def offline_arn(role: str | None) -> str:
    """The ARN of a role as it can be rendered: that of a name is of no account yet."""
    name = role or "not-set"
    return f"arn:aws:iam::{ACCOUNT}:role/{name}" if is_name(name) else name


def find_arn(role: str, iam: Client) -> str:
    """The ARN of a role of this account; IAM is asked where `role` is a name."""
    return str(iam.call("GetRole", RoleName=role)["Role"]["Arn"]) if is_name(role) else role
