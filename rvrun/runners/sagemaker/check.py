"""`rvrun check --runner sagemaker`: look up role, images, quotas and buckets, changing nothing.

What a definition itself does wrong is found offline, by `render` and `validate`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import attrs

from rvrun.aws.client import DENIED, Account, AwsError, Client
from rvrun.finding import Finding, error, ok, warning
from rvrun.remote.ledger import run_name
from rvrun.remote.upload import is_rvrun
from rvrun.runners.aws_common import check_account
from rvrun.runners.run import Run
from rvrun.runners.sagemaker.instance_quotas import check_quotas
from rvrun.runners.sagemaker.machine import choose_machine
from rvrun.runners.sagemaker.permissions import check_permissions
from rvrun.runners.sagemaker.render import job_contexts
from rvrun.runners.sagemaker.role import is_name
from rvrun.runners.sagemaker.settings import RUNNER, SagemakerSettings
from rvrun.runners.sagemaker.steps import JobContext, SagemakerPipeline, plan_steps

SERVICE = "sagemaker.amazonaws.com"
_ECR = re.compile(
    r"(?P<registry>\d{12})\.dkr\.ecr\.(?P<region>[a-z0-9-]+)\.amazonaws\.com(\.cn)?/"
    r"(?P<name>[^:@]+)(:(?P<tag>[^@]+))?(@(?P<digest>sha256:[0-9a-f]{64}))?"
)


def check(run: Run) -> Iterator[Finding]:
    """Yield what AWS would refuse: the account, its role, images and quotas, the buckets."""
    settings = run.settings.of(SagemakerSettings)

    def check_own(account: Account) -> Iterator[Finding]:
        yield from check_role(account.reader("iam"), settings.role or "")
        yield from check_permissions(account, settings)
        images = [
            choose_machine(pipeline.name, stage, settings).image
            for pipeline in run.plan.pipelines
            for stage in pipeline.stages
        ]
        yield from check_images(account, images)
        contexts = job_contexts(run)
        pipelines = plan_steps(run.plan, settings, contexts, run_name(run.out, run.name))
        yield from check_quotas(account, pipelines, settings)
        yield from check_workers(pipelines, contexts)

    return check_account(run, RUNNER, settings.worker, check_own)


def check_role(iam: Client, role: str) -> Iterator[Finding]:
    """Check that `role`, an ARN or a name, exists and that SageMaker can assume it."""
    name = role.rpartition("/")[2]
    try:
        existing = iam.call("GetRole", RoleName=name)["Role"]
    except AwsError as problem:
        fix = "change `sagemaker.role`, or create the role"
        yield _not_found("role", f"`{name}`", problem, fix, permission="iam:GetRole")
        return
    if not is_name(role) and existing["Arn"] != role:
        text = f"`sagemaker.role` is {role}, but `{name}` of this account is {existing['Arn']}"
        yield error("role", text, "change `sagemaker.role`")
    elif not _trusts_sagemaker(existing["AssumeRolePolicyDocument"]):
        text = f"{SERVICE} cannot assume `{name}`"
        yield error("role", text, "add that service to its trust policy; see docs/sagemaker.md")
    else:
        yield ok("role", f"{SERVICE} can assume `{name}`")


def _trusts_sagemaker(policy: Mapping[str, Any]) -> bool:
    for statement in policy.get("Statement", ()):
        services = statement.get("Principal", {}).get("Service", ())
        listed = [services] if isinstance(services, str) else services
        if statement.get("Effect") == "Allow" and SERVICE in listed:
            return True
    return False


def check_images(account: Account, images: Iterable[str]) -> Iterator[Finding]:
    """Check that the images exist in ECR."""
    for image in dict.fromkeys(images):
        match = _ECR.fullmatch(image)
        if match is None:
            text = f"{image} is not in ECR, from which SageMaker pulls images"
            yield warning("image", text, "push it to ECR, and set the URI that it has there")
        else:
            yield _check_image(account, image, match)


def _check_image(account: Account, image: str, uri: re.Match[str]) -> Finding:
    image_id = {"imageTag": uri["tag"] or "latest"}
    if uri["digest"]:
        image_id = {"imageDigest": uri["digest"]}
    # An image may be in another region than the jobs.
    ecr = attrs.evolve(account, region=uri["region"]).reader("ecr")
    try:
        ecr.call(
            "DescribeImages",
            registryId=uri["registry"],
            repositoryName=uri["name"],
            imageIds=[image_id],
        )
    except AwsError as problem:
        fix = "push it, or change the setting"
        return _not_found("image", image, problem, fix, permission="ecr:DescribeImages")
    return ok("image", f"{image} exists")


def _not_found(subject: str, name: str, problem: AwsError, fix: str, *, permission: str) -> Finding:
    """A finding about what could not be read; only a warning if this user may not read it.

    SageMaker may be allowed to.
    """
    if problem.code in DENIED:
        text = f"cannot check {name}: {problem.message}"
        return warning(subject, text, f"add the `{permission}` permission")
    return error(subject, f"{name}: {problem.message} ({problem.code})", fix)


def check_workers(
    pipelines: Iterable[SagemakerPipeline], contexts: Mapping[str, JobContext]
) -> Iterator[Finding]:
    """Warn about another system's images that must contain rvrun."""
    stages = dict.fromkeys(
        step.stage
        for pipeline in pipelines
        for step in pipeline.jobs()
        if contexts[step.stage.partition("/")[0]].upload.own_adapter and is_rvrun(step.entrypoint)
    )
    if stages:
        text = f"{', '.join(stages)}: jobs with several instances require rvrun in their image"
        fix = 'install rvrun there; if all images have it, set `sagemaker.worker = "rvrun"`'
        yield warning("worker", text, fix)
