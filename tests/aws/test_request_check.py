"""Requests are checked against botocore's service models."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import botocore
import botocore.session
import pytest
from botocore.validate import ParamValidator
from hypothesis import given
from hypothesis import strategies as st

from rvrun.aws import request_check
from rvrun.aws.request_check import problems

ROLE = "arn:aws:iam::123456789012:role/rvrun"
PROCESSING: dict[str, Any] = {
    "RoleArn": ROLE,
    "AppSpecification": {"ImageUri": "image", "ContainerArguments": ["a"]},
    "ProcessingResources": {
        "ClusterConfig": {
            "InstanceCount": 1,
            "InstanceType": "ml.m5.large",
            "VolumeSizeInGB": 30,
        }
    },
}
NAME = ("ProcessingJobName",)


def processing(**changed: Any) -> list[str]:
    """The problems of a processing job with other values for some members."""
    return problems("sagemaker", "CreateProcessingJob", {**PROCESSING, **changed}, without=NAME)


def cluster(**changed: Any) -> list[str]:
    """The problems of a cluster with other values for some members."""
    whole = {**PROCESSING["ProcessingResources"]["ClusterConfig"], **changed}
    return processing(ProcessingResources={"ClusterConfig": whole})


CLUSTER = "ProcessingResources.ClusterConfig"


def test_a_good_request_has_no_problems() -> None:
    """AWS would accept it; the job's name, which is added later, may be missing."""
    assert processing() == []


def test_required_members() -> None:
    """A missing member is a problem unless it is added later."""
    params: dict[str, Any] = {"AppSpecification": {}, "ProcessingResources": {}}
    assert problems("sagemaker", "CreateProcessingJob", params) == [
        "ProcessingJobName is required",
        "RoleArn is required",
        "AppSpecification.ImageUri is required",
        "ProcessingResources.ClusterConfig is required",
    ]


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({"InstanceCount": 101}, f"{CLUSTER}.InstanceCount must be at most 100, got 101"),
        ({"InstanceCount": 0}, f"{CLUSTER}.InstanceCount must be at least 1, got 0"),
        ({"InstanceCount": True}, f"{CLUSTER}.InstanceCount must be an integer, got True"),
        ({"InstanceCount": "1"}, f"{CLUSTER}.InstanceCount must be an integer, got '1'"),
        (
            {"InstanceTypes": "ml.m5.large"},
            f"{CLUSTER}.InstanceTypes is unknown; did you mean 'InstanceType'?",
        ),
        (
            {"VolumeKmsKeyId": "a key"},
            f"{CLUSTER}.VolumeKmsKeyId must match [a-zA-Z0-9:/_-]*, got 'a key'",
        ),
    ],
)
def test_problems_name_path_rule_and_value(changed: Mapping[str, Any], problem: str) -> None:
    """Ranges, types, unknown members and patterns, deep in the request."""
    assert [problem] == cluster(**changed)


def test_enumerations_suggest_and_name_the_version() -> None:
    """A newer botocore may know an instance type that this one does not."""
    (problem,) = cluster(InstanceType="ml.m5.lerge")
    assert re.fullmatch(
        rf"{CLUSTER}.InstanceType must be one of \d+ values such as (ml\.[\w.]+(, )?){{5}} "
        rf"\(botocore {botocore.__version__}\), got 'ml.m5.lerge'; did you mean 'ml.m5.large'\?",
        problem,
    )


def test_lists_maps_and_lengths() -> None:
    """Items, keys and values are counted and checked one by one."""
    long = "x" * 257
    result = processing(
        AppSpecification={"ImageUri": "image", "ContainerArguments": ["ok", long]},
        Environment={"1A": "b", "B": long},
        Tags=[{"Key": "k", "Value": "v"}] * 51,
    )
    shown = repr(long)[:59] + "…"
    assert result == [
        "AppSpecification.ContainerArguments[1] must have at most 256 characters, got 257 "
        f"({shown})",
        "Environment key '1A' must match [a-zA-Z_][a-zA-Z0-9_]*, got '1A'",
        f"Environment.B must have at most 256 characters, got 257 ({shown})",
        "Tags must have at most 50 items, got 51",
    ]


def test_empty_lists_are_counted() -> None:
    """Too few items are a problem."""
    result = processing(AppSpecification={"ImageUri": "image", "ContainerEntrypoint": []})
    assert result == ["AppSpecification.ContainerEntrypoint must have at least 1 item, got 0"]


@pytest.mark.parametrize(
    ("key", "fits"),
    [("Straße", True), ("日本 1", True), ("a@b/c", True), ("a,b", False), ("é!", False)],
)
def test_letters_of_all_scripts(key: str, fits: bool) -> None:
    r"""`\p{L}` matches the letters of Unicode, though Python's expressions lack it."""
    assert (processing(Tags=[{"Key": key, "Value": ""}]) == []) is fits


def test_a_value_that_must_be_an_object() -> None:
    """A string or list in its place is one problem, not a traceback."""
    assert processing(AppSpecification="x") == ["AppSpecification must be an object, got 'x'"]
    assert processing(Environment=["a"]) == ["Environment must be an object, got ['a']"]


def test_other_services() -> None:
    """Every service of botocore has a model."""
    params = {"jobName": "a", "jobQueue": "q", "jobDefinition": "d", "timeout": {"x": 1}}
    assert problems("batch", "SubmitJob", params) == [
        "timeout.x is unknown",
    ]


def test_unions_have_exactly_one_member() -> None:
    """A union without a member is a problem."""
    request = {"integrationName": "a", "integrationType": "OPENSEARCH", "resourceConfig": {}}
    assert problems("logs", "PutIntegration", request) == [
        "resourceConfig must have exactly one of openSearchResourceConfig, got 0 members"
    ]


@pytest.mark.parametrize("service", ["batch", "sagemaker", "logs", "s3"])
def test_nearly_all_patterns_can_be_read(service: str) -> None:
    """Few patterns cannot be read, and no request of rvrun has members with these."""
    model = botocore.session.Session().get_service_model(service)
    unread = set()
    for name in model.shape_names:
        pattern = model.shape_for(name).metadata.get("pattern", "")
        try:
            re.compile(
                request_check._PROPERTY.sub(
                    lambda match: request_check._members(match[1], "a"), pattern
                )
            )
        except re.error:
            unread.add(name)
    catalogs = {"AthenaCatalog", "Catalog", "Database", "TableName"}
    metadata = {"CustomerMetadataKey", "CustomerMetadataValue"}
    assert unread - catalogs - metadata - {"ResourceType"} == set()


values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-1, 200) | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from(
                [
                    "ImageUri",
                    "ContainerArguments",
                    "ClusterConfig",
                    "InstanceCount",
                    "VolumeSizeInGB",
                ]
            ),
            inner,
            max_size=3,
        )
    ),
    max_leaves=6,
)


@given(
    st.dictionaries(
        st.sampled_from(
            [
                "AppSpecification",
                "ProcessingResources",
                "RoleArn",
                "ProcessingJobName",
                "Tags",
                "Environment",
            ]
        ),
        values,
    )
)
def test_what_botocore_refuses_is_a_problem(params: dict[str, Any]) -> None:
    """The check is at least as strict as botocore's own validator."""
    shape = request_check._model("sagemaker").operation_model("CreateProcessingJob").input_shape
    assert shape is not None
    if ParamValidator().validate(params, shape).has_errors():
        assert problems("sagemaker", "CreateProcessingJob", params)
