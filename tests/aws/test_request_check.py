"""Requests held to the service models of botocore."""

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

from rvrun.aws import request_check as shapes
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
    """What is wrong with a processing job in which some members are others."""
    return problems("sagemaker", "CreateProcessingJob", {**PROCESSING, **changed}, without=NAME)


def cluster(**changed: Any) -> list[str]:
    """What is wrong with a cluster in which some members are others."""
    whole = {**PROCESSING["ProcessingResources"]["ClusterConfig"], **changed}
    return processing(ProcessingResources={"ClusterConfig": whole})


CLUSTER = "ProcessingResources.ClusterConfig"


def test_a_good_request_has_no_problems() -> None:
    """A request as AWS takes it; the job's name is somebody else's to add."""
    assert processing() == []


def test_required_members_are_asked_for() -> None:
    """Without a word on who else adds it, a missing member is a problem."""
    params = {"AppSpecification": {}, "ProcessingResources": {}}
    assert problems("sagemaker", "CreateProcessingJob", params) == [
        "ProcessingJobName is missing",
        "RoleArn is missing",
        "AppSpecification.ImageUri is missing",
        "ProcessingResources.ClusterConfig is missing",
    ]


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({"InstanceCount": 101}, f"{CLUSTER}.InstanceCount is 101, more than 100"),
        ({"InstanceCount": 0}, f"{CLUSTER}.InstanceCount is 0, below 1"),
        ({"InstanceCount": True}, f"{CLUSTER}.InstanceCount is True, not a whole number"),
        ({"InstanceCount": "1"}, f"{CLUSTER}.InstanceCount is '1', not a whole number"),
        (
            {"InstanceTypes": "ml.m5.large"},
            f"{CLUSTER}.InstanceTypes is unknown, did you mean 'InstanceType'?",
        ),
        (
            {"VolumeKmsKeyId": "a key"},
            f"{CLUSTER}.VolumeKmsKeyId is 'a key', which does not match [a-zA-Z0-9:/_-]*",
        ),
    ],
)
def test_findings_name_path_value_and_limit(changed: Mapping[str, Any], problem: str) -> None:
    """Ranges, types, unknown members and patterns, deep in the request."""
    assert [problem] == cluster(**changed)


def test_enumerations_suggest_and_name_the_version() -> None:
    """A machine type that this botocore does not know may be one of a newer."""
    (found,) = cluster(InstanceType="ml.m5.lerge")
    assert found.startswith(
        f"{CLUSTER}.InstanceType is 'ml.m5.lerge', did you mean 'ml.m5.large'?; "
        f"botocore {botocore.__version__} knows "
    )


def test_lists_maps_and_lengths() -> None:
    """Items are counted and each is looked at; so are keys and values of maps."""
    long = "x" * 257
    found = processing(
        AppSpecification={"ImageUri": "image", "ContainerArguments": ["ok", long]},
        Environment={"1A": "b", "B": long},
        Tags=[{"Key": "k", "Value": "v"}] * 51,
    )
    shown = repr(long)[:59] + "…"
    assert found == [
        f"AppSpecification.ContainerArguments[1] has 257 characters ({shown}), more than 256",
        "Environment key '1A' is '1A', which does not match [a-zA-Z_][a-zA-Z0-9_]*",
        f"Environment.B has 257 characters ({shown}), more than 256",
        "Tags has 51 items, more than 50",
    ]


def test_empty_lists_are_counted() -> None:
    """Too few is said as such."""
    found = processing(AppSpecification={"ImageUri": "image", "ContainerEntrypoint": []})
    assert found == ["AppSpecification.ContainerEntrypoint has 0 items, fewer than 1"]


@pytest.mark.parametrize(
    ("key", "fits"),
    [("Straße", True), ("日本 1", True), ("a@b/c", True), ("a,b", False), ("é!", False)],
)
def test_letters_of_all_scripts_match_where_the_model_says_so(key: str, fits: bool) -> None:
    r"""`\p{L}`, which Python's expressions lack, is what Unicode says."""
    assert (processing(Tags=[{"Key": key, "Value": ""}]) == []) is fits


def test_objects_are_asked_for() -> None:
    """A text where an object belongs is one problem, and no traceback."""
    assert processing(AppSpecification="x") == ["AppSpecification is 'x', not an object"]
    assert processing(Environment=["a"]) == ["Environment is ['a'], not an object"]


def test_batch_has_its_model_too() -> None:
    """Any service of botocore's can be asked."""
    params = {"jobName": "a", "jobQueue": "q", "jobDefinition": "d", "timeout": {"x": 1}}
    assert problems("batch", "SubmitJob", params) == [
        "timeout.x is unknown",
    ]


def test_unions_take_one_member() -> None:
    """Exactly one of their members, no less and no more."""
    request = {"integrationName": "a", "integrationType": "OPENSEARCH", "resourceConfig": {}}
    assert problems("logs", "PutIntegration", request) == [
        "resourceConfig has 0 members; it takes exactly one of openSearchResourceConfig"
    ]


@pytest.mark.parametrize("service", ["batch", "sagemaker", "logs", "s3"])
def test_nearly_all_patterns_can_be_read(service: str) -> None:
    """Those that Python cannot read are few, and none that requests of rvrun meet."""
    model = botocore.session.Session().get_service_model(service)
    unread = set()
    for name in model.shape_names:
        pattern = model.shape_for(name).metadata.get("pattern", "")
        try:
            re.compile(shapes._PROPERTY.sub(lambda match: shapes._members(match[1], "a"), pattern))
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
    """It is never milder than botocore's own validator."""
    shape = shapes._model("sagemaker").operation_model("CreateProcessingJob").input_shape
    assert shape is not None
    if ParamValidator().validate(params, shape).has_errors():
        assert problems("sagemaker", "CreateProcessingJob", params)
