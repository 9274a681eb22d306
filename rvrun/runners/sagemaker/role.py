"""The role that pipelines and jobs run as: an ARN, or only a name, as in Raster Vision."""

from __future__ import annotations

from rvrun.aws.client import Client

#: The account in the ARN of a role that is only named, until the run is submitted.
UNKNOWN_ACCOUNT = "000000000000"


def is_name(role: str) -> bool:
    """Whether `role` is a name rather than an ARN."""
    return not role.startswith("arn:")


def offline_arn(role: str | None) -> str:
    """Return the ARN of `role` for rendering; that of a name has a placeholder as its account."""
    name = role or "not-set"
    return f"arn:aws:iam::{UNKNOWN_ACCOUNT}:role/{name}" if is_name(name) else name


def find_arn(name: str, iam: Client) -> str:
    """Ask IAM for the ARN of the role called `name`. Raises `AwsError`."""
    return str(iam.call("GetRole", RoleName=name)["Role"]["Arn"])
