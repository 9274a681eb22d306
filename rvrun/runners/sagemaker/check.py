"""What `rvrun check --runner sagemaker` asks AWS: whether the role and the images are there."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import attrs

from rvrun.aws.client import Account, AwsError, Client
from rvrun.finding import Finding, error, ok, warning
from rvrun.remote.ledger import run_name
from rvrun.remote.upload import is_rvrun
from rvrun.runners.aws_common import check_account
from rvrun.runners.run import Run
from rvrun.runners.sagemaker.machine import machine
from rvrun.runners.sagemaker.render import places_of
from rvrun.runners.sagemaker.role import is_name
from rvrun.runners.sagemaker.settings import SagemakerSettings
from rvrun.runners.sagemaker.steps import definitions

SERVICE = "sagemaker.amazonaws.com"
DENIED = ("AccessDenied", "AccessDeniedException")
_ECR = re.compile(
    r"(?P<registry>\d{12})\.dkr\.ecr\.(?P<region>[a-z0-9-]+)\.amazonaws\.com(\.cn)?/"
    r"(?P<name>[^:@]+)(:(?P<tag>[^@]+))?(@(?P<digest>sha256:[0-9a-f]{64}))?"
)


def check_role(iam: Client, said: str) -> Iterator[Finding]:
    """The role is there, and SageMaker may take it on; `said`: its ARN or name."""
    name = said.rpartition("/")[2]
    try:
        role = iam.call("GetRole", RoleName=name)["Role"]
    except AwsError as problem:
        yield _unseen("role", f"`{name}`", problem, "change `sagemaker.role`, or make the role")
        return
    if not is_name(said) and role["Arn"] != said:
        text = f"`sagemaker.role` is {said}, but this account's `{name}` is {role['Arn']}"
        yield error("role", text, "change `sagemaker.role`")
    elif not _trusts(role["AssumeRolePolicyDocument"]):
        text = f"`{name}` cannot be taken on by {SERVICE}"
        yield error("role", text, "add that service to its trust policy; see docs/sagemaker.md")
    else:
        yield ok("role", f"`{name}` can be taken on by {SERVICE}")


def _trusts(policy: Mapping[str, Any]) -> bool:
    for statement in policy.get("Statement", ()):
        services = statement.get("Principal", {}).get("Service", ())
        listed = [services] if isinstance(services, str) else services
        if statement.get("Effect") == "Allow" and SERVICE in listed:
            return True
    return False


def check_images(account: Account, images: Iterable[str]) -> Iterator[Finding]:
    """The images are in ECR."""
    for image in dict.fromkeys(images):
        place = _ECR.fullmatch(image)
        if place is None:
            text = f"{image} is not in ECR, where SageMaker takes images from"
            yield warning("image", text, "push it there, and name it as ECR does")
        else:
            yield _image(account, image, place)


def check_workers(stages: Sequence[str]) -> Iterator[Finding]:
    """Images of Raster Vision's pipelines that must have rvrun: which, by their stages."""
    if stages:
        text = f"{', '.join(stages)}: several instances at once, so rvrun must be in the image"
        mend = 'install it there; `sagemaker.worker = "rvrun"` says that all images have it'
        yield warning("worker", text, mend)


def _image(account: Account, image: str, place: re.Match[str]) -> Finding:
    by_digest = {"imageDigest": place["digest"]}
    one = by_digest if place["digest"] else {"imageTag": place["tag"] or "latest"}
    ecr = attrs.evolve(account, region=place["region"]).reader("ecr")
    try:
        ecr.call(
            "DescribeImages",
            registryId=place["registry"],
            repositoryName=place["name"],
            imageIds=[one],
        )
    except AwsError as problem:
        return _unseen("image", image, problem, "push it, or change the setting")
    return ok("image", f"{image} is there")


def _unseen(subject: str, what: str, problem: AwsError, mend: str) -> Finding:
    """What is not there; a warning where we may not look, since SageMaker may all the same."""
    if problem.code in DENIED:
        return warning(subject, f"{what} cannot be looked at: {problem.message}", "look yourself")
    return error(subject, f"{what}: {problem.message} ({problem.code})", mend)


def check(run: Run) -> Iterator[Finding]:
    """Yield what AWS would refuse: the account, its role and images, the buckets."""
    settings = run.settings.of(SagemakerSettings)

    def check_sagemaker(account: Account) -> Iterator[Finding]:
        yield from check_role(account.reader("iam"), settings.role or "")
        stages = [(each.name, stage) for each in run.plan.pipelines for stage in each.stages]
        images = [machine(name, stage, settings).image for name, stage in stages]
        yield from check_images(account, images)
        yield from check_workers(_instanced(run))

    return check_account(run, "sagemaker", settings.worker, check_sagemaker)


def _instanced(run: Run) -> list[str]:
    """Stages that rvrun's worker runs though another system's own is wanted."""
    settings, places = run.settings.of(SagemakerSettings), places_of(run)
    name = run_name(run.out, run.name)
    found = {
        step.stage: None
        for definition in definitions(run.plan, settings, places, name)
        for step in definition.jobs()
        if places[step.stage.partition("/")[0]].upload.own_adapter and is_rvrun(step.entrypoint)
    }
    return list(found)
