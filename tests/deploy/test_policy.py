"""A node's plugin writes slices of its own node and no others; nobody else is concerned."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Final

import pytest

from driver.core.cel.values import Value
from tests.fakes import kustomize
from tests.fakes.admission import Request, review
from tests.fakes.kustomize import Object, items, mapping

DEPLOY: Final = Path(__file__).resolve().parents[2] / "deploy"
INSTALLATIONS: Final = ("base", "overlays/simulated", "overlays/driver-container")
US: Final = "system:serviceaccount:accel-dra:accel-dra-node"


def find(kind: str, installation: str = "base") -> Object:
    """Return the only object of a kind, leaving the controller's aside."""
    objects = [item for item in kustomize.render(DEPLOY / installation) if item["kind"] == kind]
    (found,) = [item for item in objects if kustomize.identity(item)[1] != "accel-dra-controller"]
    return found


POLICY: Final = find("ValidatingAdmissionPolicy")


def sliced(node: str = "node-a", **spec: Value) -> dict[str, Value]:
    pool: dict[str, Value] = {"name": node, "generation": 1, "resourceSliceCount": 1}
    content: dict[str, Value] = {"driver": "gpu.accel-dra.dev", "pool": pool, **spec}
    if node:
        content["nodeName"] = node
    return {"metadata": {"name": "s"}, "spec": content}


OWN: Final = Request(username=US, operation="CREATE", obj=sliced(), node="node-a")


@pytest.mark.parametrize(
    "request_",
    [
        OWN,
        dataclasses.replace(OWN, operation="UPDATE", old=sliced()),
        dataclasses.replace(OWN, operation="DELETE", obj=None, old=sliced()),
    ],
    ids=["create", "update", "delete"],
)
def test_a_plugin_writes_the_slices_of_its_node(request_: Request) -> None:
    assert review(POLICY, request_) == []


@pytest.mark.parametrize(
    "request_",
    [
        dataclasses.replace(OWN, obj=sliced("node-b")),
        dataclasses.replace(OWN, operation="UPDATE", obj=sliced("node-b"), old=sliced("node-b")),
        dataclasses.replace(OWN, operation="DELETE", obj=None, old=sliced("node-b")),
    ],
    ids=["create", "update", "delete"],
)
def test_a_plugin_does_not_write_the_slices_of_another_node(request_: Request) -> None:
    assert review(POLICY, request_) == ["the node plugin on node node-a may not write ResourceSlices of node node-b"]


@pytest.mark.parametrize(
    "spec",
    [
        {"allNodes": True},
        {"nodeSelector": {"nodeSelectorTerms": []}},
        {"perDeviceNodeSelection": True},
        {},
    ],
    ids=["allNodes", "nodeSelector", "perDeviceNodeSelection", "nothing"],
)
@pytest.mark.parametrize("node", ["", "node-a"], ids=["alone", "beside nodeName"])
def test_a_plugin_offers_devices_of_its_node_only(spec: dict[str, Value], node: str) -> None:
    denied = review(POLICY, dataclasses.replace(OWN, obj=sliced(node, **spec)))
    if node and not spec:
        assert denied == []
    else:
        assert any("not for one node" in text for text in denied)


def test_a_slice_for_every_node_cannot_be_removed_by_a_plugin() -> None:
    everywhere = sliced("", allNodes=True)
    assert review(POLICY, dataclasses.replace(OWN, operation="DELETE", obj=None, old=everywhere))


def test_a_token_without_a_node_writes_nothing() -> None:
    (text,) = review(POLICY, dataclasses.replace(OWN, node=""))
    assert text.startswith(f"the token of {US} names no node")


@pytest.mark.parametrize("installation", INSTALLATIONS)
def test_peer_defect_02_the_policy_knows_the_account_that_the_pods_use(installation: str) -> None:
    """The rendered manifests are asked, not a name written down twice."""
    spec = mapping(mapping(mapping(find("DaemonSet", installation)["spec"])["template"])["spec"])
    namespace = mapping(find("DaemonSet", installation)["metadata"])["namespace"]
    account = f"system:serviceaccount:{namespace}:{spec['serviceAccountName']}"
    policy = find("ValidatingAdmissionPolicy", installation)
    assert review(policy, dataclasses.replace(OWN, username=account, obj=sliced("node-b")))
    assert mapping(find("ServiceAccount", installation)["metadata"])["name"] == spec["serviceAccountName"]


def test_peer_defect_02_the_policy_holds_in_any_namespace() -> None:
    moved = dataclasses.replace(OWN, username="system:serviceaccount:elsewhere:accel-dra-node", obj=sliced("node-b"))
    assert review(POLICY, moved)


@pytest.mark.parametrize(
    "username",
    [
        "system:serviceaccount:kube-system:generic-garbage-collector",
        "system:node:node-a",
        "system:serviceaccount:nvidia:nvidia-dra-driver-gpu-kubeletplugin",
        "system:serviceaccount:accel-dra:accel-dra-node-2",
        "system:serviceaccount:accel-dra:accel-dra-controller",
        "kubernetes-admin",
        "someone:accel-dra-node",
    ],
)
def test_nobody_else_is_concerned(username: str) -> None:
    assert review(POLICY, dataclasses.replace(OWN, username=username, obj=sliced("node-b"), node="")) == []


def test_other_resources_are_not_concerned() -> None:
    assert review(POLICY, dataclasses.replace(OWN, resource="resourceclaims", obj={"metadata": {}}, node="")) == []


def test_the_policy_is_bound_and_denies() -> None:
    binding = mapping(find("ValidatingAdmissionPolicyBinding")["spec"])
    assert binding["policyName"] == mapping(POLICY["metadata"])["name"]
    assert binding["validationActions"] == ["Deny"]
    assert "matchResources" not in binding
    assert mapping(POLICY["spec"])["failurePolicy"] == "Fail"


def test_peer_defect_14_the_policy_covers_every_version_of_the_api() -> None:
    (rule,) = map(mapping, items(mapping(mapping(POLICY["spec"])["matchConstraints"])["resourceRules"]))
    assert rule["apiVersions"] == ["*"]
    assert set(items(rule["operations"])) == {"CREATE", "UPDATE", "DELETE"}
