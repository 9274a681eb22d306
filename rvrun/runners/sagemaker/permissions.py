"""Permissions of the job role that only some settings need, and whether the role has them.

Sources: Amazon SageMaker Developer Guide, "How to use SageMaker execution roles" (the permissions
of CreateProcessingJob and CreateTrainingJob with a private VPC, and with KMS keys for volumes and
outputs), and Amazon S3 User Guide, "Using server-side encryption with AWS KMS keys" (the keys of
data that are written in several parts).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rvrun.aws.client import Account, AwsError, Client
from rvrun.finding import Finding, ok, warning
from rvrun.runners.sagemaker.role import find_arn, is_name
from rvrun.runners.sagemaker.settings import SagemakerSettings

#: By the setting that needs them.
PERMISSIONS = {
    "subnets": (
        "ec2:CreateNetworkInterface",
        "ec2:CreateNetworkInterfacePermission",
        "ec2:DeleteNetworkInterface",
        "ec2:DeleteNetworkInterfacePermission",
        "ec2:DescribeDhcpOptions",
        "ec2:DescribeNetworkInterfaces",
        "ec2:DescribeSecurityGroups",
        "ec2:DescribeSubnets",
        "ec2:DescribeVpcs",
    ),
    "kms_key": ("kms:CreateGrant", "kms:Decrypt", "kms:Encrypt", "kms:GenerateDataKey"),
}
#: SageMaker creates grants for EBS, and policies often allow only such grants.
_FOR_AWS_RESOURCE = {
    "ContextKeyName": "kms:GrantIsForAWSResource",
    "ContextKeyValues": ["true"],
    "ContextKeyType": "boolean",
}
_SUBJECT = "permissions"


def check_permissions(account: Account, settings: SagemakerSettings) -> Iterator[Finding]:
    """Check that the role has what the settings need.

    What is missing is only a warning, because a simulation does not see everything: the policy of
    a KMS key may allow what the role's own policies do not.
    """
    used = [name for name in PERMISSIONS if getattr(settings, name)]
    if not (used and settings.role):
        return
    iam = account.reader("iam")
    try:
        role = find_arn(settings.role, iam) if is_name(settings.role) else settings.role
        for name in used:
            yield _check(iam, role, name, _resource(settings, name, role, account))
    except AwsError as problem:
        fix = problem.how_to_fix() or "check them in the policies of the role"
        yield warning(_SUBJECT, f"cannot check the permissions of the role: {problem.message}", fix)


def _resource(settings: SagemakerSettings, name: str, role: str, account: Account) -> str | None:
    """The resource of the permissions: all, or the ARN of the key; None if that is not known.

    An alias is resolved only when it is used.
    """
    if name != "kms_key":
        return "*"
    key = settings.kms_key or ""
    if "alias/" in key:
        return None
    if key.startswith("arn:"):
        return key
    _, partition, _, _, account_id, *_ = role.split(":")
    return f"arn:{partition}:kms:{account.region_in_force}:{account_id}:key/{key}"


def _check(iam: Client, role: str, name: str, resource: str | None) -> Finding:
    setting, role_name = f"`sagemaker.{name}`", role.rpartition("/")[2]
    if resource is None:
        text = f"cannot check the permissions that {setting} needs: it is an alias"
        return warning(_SUBJECT, text, "set the ARN of the key")
    missing = _missing(iam, role, PERMISSIONS[name], resource)
    if missing:
        text = f"`{role_name}` lacks {', '.join(missing)}, which jobs with {setting} need"
        return warning(_SUBJECT, text, "add them to a policy of the role; see docs/sagemaker.md")
    return ok(_SUBJECT, f"`{role_name}` has what {setting} needs")


def _missing(iam: Client, role: str, actions: Sequence[str], resource: str) -> list[str]:
    answer = iam.call(
        "SimulatePrincipalPolicy",
        PolicySourceArn=role,
        ActionNames=list(actions),
        ResourceArns=[resource],
        ContextEntries=[_FOR_AWS_RESOURCE],
    )
    allowed = {
        result["EvalActionName"]
        for result in answer.get("EvaluationResults", ())
        if result["EvalDecision"] == "allowed"
    }
    return [action for action in actions if action not in allowed]
