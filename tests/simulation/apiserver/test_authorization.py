"""RBAC over stored roles, the rules for nodes, and the finer rights for the status of claims."""

from __future__ import annotations

from typing import Any

import pytest

from driver.simulation.apiserver import ApiServer, User, gates_of
from driver.simulation.apiserver.authorizing import Attributes, rule_allows
from driver.simulation.apiserver.values import JsonObject
from tests.simulation.apiserver.asking import DRA, MERGE, Asking, a_claim, a_pod, a_slice, an_allocation

ADMIN = "admin-token"
RBAC = "/apis/rbac.authorization.k8s.io/v1"
CLAIMS = f"{DRA}/namespaces/default/resourceclaims"
DRIVER = User(
    "system:serviceaccount:default:driver",
    groups=("system:serviceaccounts", "system:serviceaccounts:default"),
    extra={"authentication.kubernetes.io/node-name": ("node-a",)},
)
KUBELET = User("system:node:node-a", groups=("system:nodes",))


@pytest.fixture
def server() -> ApiServer:
    tokens = {
        ADMIN: User("admin", groups=("system:masters",)),
        "driver": DRIVER,
        "kubelet": KUBELET,
        "alice": User("alice", groups=("team",)),
    }
    return ApiServer(authorize=True, tokens=tokens)


@pytest.fixture
def admin(server: ApiServer) -> Asking:
    return Asking(server, ADMIN)


@pytest.fixture
def driver(server: ApiServer) -> Asking:
    return Asking(server, "driver")


@pytest.fixture
def kubelet(server: ApiServer) -> Asking:
    return Asking(server, "kubelet")


def grant(admin: Asking, *rules: dict[str, list[str]], namespace: str = "", to: dict[str, str] | None = None) -> None:
    """Gives a subject (the driver by default) a role, cluster-wide or in a namespace."""
    subject = to or {"kind": "ServiceAccount", "name": "driver", "namespace": "default"}
    where, kind = (f"/namespaces/{namespace}", "Role") if namespace else ("", "ClusterRole")
    plural = kind.lower()
    admin.ok("POST", f"{RBAC}{where}/{plural}s", {"metadata": {"name": "r"}, "rules": list(rules)})
    binding = {"metadata": {"name": "b"}, "roleRef": {"kind": kind, "name": "r"}, "subjects": [subject]}
    admin.ok("POST", f"{RBAC}{where}/{plural}bindings", binding)


def rule(resources: str, verbs: str, *names: str, groups: str = "resource.k8s.io") -> dict[str, list[str]]:
    made = {"apiGroups": [groups], "resources": resources.split(), "verbs": verbs.split()}
    return {**made, "resourceNames": list(names)} if names else made


@pytest.mark.parametrize(
    ("given", "wanted", "expected"),
    [
        (rule("pods", "get", groups=""), Attributes("get", resource="pods"), True),
        (rule("pods", "get", groups=""), Attributes("list", resource="pods"), False),
        (rule("pods", "get", groups=""), Attributes("get", "apps", "pods"), False),
        (rule("pods", "get", groups=""), Attributes("get", resource="pods", subresource="status"), False),
        (rule("pods/status", "get", groups=""), Attributes("get", resource="pods", subresource="status"), True),
        (rule("*/status", "get", groups=""), Attributes("get", resource="pods", subresource="status"), True),
        (rule("*/status", "get", groups=""), Attributes("get", resource="pods"), False),
        (rule("*", "*", groups="*"), Attributes("get", "x", "y", "z"), True),
        (rule("pods", "get", "a", groups=""), Attributes("get", resource="pods", name="a"), True),
        (rule("pods", "get", "a", groups=""), Attributes("get", resource="pods", name="b"), False),
        (rule("pods", "list", "a", groups=""), Attributes("list", resource="pods"), False),
        ({"nonResourceURLs": ["/metrics"], "verbs": ["get"]}, Attributes("get", path="/metrics"), True),
        ({"nonResourceURLs": ["/a/*"], "verbs": ["get"]}, Attributes("get", path="/a/b"), True),
        ({"nonResourceURLs": ["/a"], "verbs": ["get"]}, Attributes("get", path="/b"), False),
    ],
)
def test_rules(given: JsonObject, wanted: Attributes, expected: bool) -> None:
    assert rule_allows(given, wanted) is expected


def test_a_cluster_role_counts_everywhere_once_bound(admin: Asking, driver: Asking) -> None:
    assert driver.answer("GET", f"{DRA}/resourceslices").status == 403
    grant(admin, rule("resourceslices", "get list create"))
    assert driver.ok("GET", f"{DRA}/resourceslices")["items"] == []
    driver.ok("POST", f"{DRA}/resourceslices", a_slice())
    code, message = driver.refused("DELETE", f"{DRA}/resourceslices/s")
    assert code == 403
    assert message == (
        'resourceslices.resource.k8s.io "s" is forbidden: User "system:serviceaccount:default:driver" cannot delete '
        'resource "resourceslices" in API group "resource.k8s.io" at the cluster scope'
    )


def test_a_role_counts_in_its_namespace_only(admin: Asking, driver: Asking) -> None:
    grant(admin, rule("resourceclaims", "get list"), namespace="default")
    assert driver.ok("GET", CLAIMS)["items"] == []
    assert driver.answer("GET", f"{DRA}/namespaces/kube-system/resourceclaims").status == 403
    assert driver.answer("GET", f"{DRA}/resourceclaims").status == 403


@pytest.mark.parametrize("subject", [{"kind": "User", "name": "alice"}, {"kind": "Group", "name": "team"}])
def test_users_and_groups_are_subjects_too(admin: Asking, server: ApiServer, subject: dict[str, str]) -> None:
    grant(admin, rule("pods", "list", groups=""), to=subject)
    assert Asking(server, "alice").ok("GET", "/api/v1/pods")["items"] == []


def test_names_restrict_single_objects(admin: Asking, driver: Asking) -> None:
    grant(admin, rule("resourceslices", "get", "s"))
    admin.ok("POST", f"{DRA}/resourceslices", a_slice())
    assert driver.ok("GET", f"{DRA}/resourceslices/s")
    assert driver.answer("GET", f"{DRA}/resourceslices/t").status == 403


def test_taking_a_binding_away_takes_the_right_away(admin: Asking, driver: Asking) -> None:
    grant(admin, rule("resourceslices", "list"))
    assert driver.answer("GET", f"{DRA}/resourceslices").status == 200
    admin.ok("DELETE", f"{RBAC}/clusterrolebindings/b")
    assert driver.answer("GET", f"{DRA}/resourceslices").status == 403


def test_access_reviews_say_why(admin: Asking, driver: Asking) -> None:
    grant(admin, rule("resourceslices", "list"))
    attributes = {"verb": "list", "group": "resource.k8s.io", "resource": "resourceslices"}
    path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
    status = driver.ok("POST", path, {"spec": {"resourceAttributes": attributes}})["status"]
    assert status["allowed"] is True
    assert status["reason"] == (
        'RBAC: allowed by ClusterRoleBinding "b" of ClusterRole "r" to ServiceAccount "driver/default"'
    )
    path = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
    other = {"spec": {"user": "alice", "resourceAttributes": attributes}}
    assert admin.ok("POST", path, other)["status"] == {"allowed": False}
    rules = driver.ok("POST", "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews", {"spec": {"namespace": "x"}})
    assert rules["status"]["resourceRules"] == [rule("resourceslices", "list")]


def test_discovery_is_for_the_authenticated_and_health_for_all(server: ApiServer) -> None:
    anonymous, alice = Asking(server), Asking(server, "alice")
    assert anonymous.answer("GET", "/readyz").status == anonymous.answer("GET", "/version").status == 200
    assert anonymous.refused("GET", "/apis") == (
        403,
        'forbidden: User "system:anonymous" cannot get path "/apis"',
    )
    assert alice.answer("GET", "/apis").status == 200
    assert alice.answer("GET", "/openapi/v3").status == 200
    assert alice.answer("GET", "/metrics").status == 403


def test_a_kubelet_reads_claims_of_its_own_pods_only(admin: Asking, kubelet: Asking) -> None:
    admin.ok("POST", CLAIMS, a_claim())
    code, message = kubelet.refused("GET", f"{CLAIMS}/c")
    assert code == 403
    assert "no relationship found between node 'node-a' and this object" in message
    claims = [{"name": "gpu", "resourceClaimName": "c"}]
    admin.ok("POST", "/api/v1/namespaces/default/pods", a_pod(nodeName="node-a", resourceClaims=claims))
    assert kubelet.ok("GET", f"{CLAIMS}/c")


def test_a_kubelet_reads_generated_claims_through_the_pods_status(admin: Asking, kubelet: Asking) -> None:
    admin.ok("POST", CLAIMS, a_claim("generated"))
    claims = [{"name": "gpu", "resourceClaimTemplateName": "t"}]
    admin.ok("POST", "/api/v1/namespaces/default/pods", a_pod(nodeName="node-a", resourceClaims=claims))
    status = {"status": {"resourceClaimStatuses": [{"name": "gpu", "resourceClaimName": "generated"}]}}
    admin.ok("PATCH", "/api/v1/namespaces/default/pods/p/status", status, content_type=MERGE)
    assert kubelet.ok("GET", f"{CLAIMS}/generated")


@pytest.mark.parametrize("verb", ["GET", "DELETE"])
def test_a_kubelet_lists_and_wipes_slices_of_its_node_only(admin: Asking, kubelet: Asking, verb: str) -> None:
    admin.ok("POST", f"{DRA}/resourceslices", a_slice("s", "node-a"))
    admin.ok("POST", f"{DRA}/resourceslices", a_slice("t", "node-b"))
    assert kubelet.answer(verb, f"{DRA}/resourceslices").status == 403
    assert kubelet.answer(verb, f"{DRA}/resourceslices?fieldSelector=spec.nodeName=node-b").status == 403
    found = kubelet.ok(verb, f"{DRA}/resourceslices?fieldSelector=spec.nodeName=node-a")
    assert [item["metadata"]["name"] for item in found["items"]] == ["s"]


def test_a_kubelet_writes_slices_of_its_own_node_only(kubelet: Asking) -> None:
    assert kubelet.ok("POST", f"{DRA}/resourceslices", a_slice("s", "node-a"))
    code, message = kubelet.refused("POST", f"{DRA}/resourceslices", a_slice("t", "node-b"))
    assert code == 403
    assert "can only create ResourceSlice with the same NodeName as the requesting node" in message


STATUS = rule("resourceclaims/status", "update patch")


def allocated(admin: Asking, node: str = "node-a") -> None:
    admin.ok("POST", CLAIMS, a_claim())
    admin.ok("PATCH", f"{CLAIMS}/c/status", {"status": {"allocation": an_allocation(node)}}, content_type=MERGE)


def report(asking: Asking, driver: str = "gpu.example.com", device: str = "gpu-0") -> Any:
    devices = [{"driver": driver, "pool": "node-a", "device": device}]
    return asking.answer("PATCH", f"{CLAIMS}/c/status", {"status": {"devices": devices}}, content_type=MERGE)


def test_status_alone_does_not_allow_allocating(admin: Asking, driver: Asking) -> None:
    grant(admin, STATUS)
    admin.ok("POST", CLAIMS, a_claim())
    change = {"status": {"allocation": an_allocation()}}
    code, message = driver.refused("PATCH", f"{CLAIMS}/c/status", change, content_type=MERGE)
    assert code == 422
    assert 'requires resource="resourceclaims/binding", verb="patch" permission' in message


def test_binding_allows_allocating(admin: Asking, driver: Asking) -> None:
    grant(admin, STATUS, rule("resourceclaims/binding", "patch"))
    admin.ok("POST", CLAIMS, a_claim())
    change = {"status": {"allocation": an_allocation()}}
    assert driver.ok("PATCH", f"{CLAIMS}/c/status", change, content_type=MERGE)


@pytest.mark.parametrize(
    ("node", "rights", "status"),
    [
        ("node-a", "associated-node:patch", 200),
        ("node-b", "associated-node:patch", 422),
        ("node-b", "arbitrary-node:patch", 200),
        ("node-a", "associated-node:update", 422),
    ],
)
def test_devices_are_reported_for_the_own_node_or_with_arbitrary_rights(
    admin: Asking, driver: Asking, node: str, rights: str, status: int
) -> None:
    grant(admin, STATUS, rule("resourceclaims/driver", rights, "gpu.example.com"))
    allocated(admin, node)
    devices = [{"driver": "gpu.example.com", "pool": node, "device": "gpu-0"}]
    change = {"status": {"devices": devices}}
    assert driver.answer("PATCH", f"{CLAIMS}/c/status", change, content_type=MERGE).status == status


def test_devices_of_another_driver_are_not_ours_to_report(admin: Asking, driver: Asking) -> None:
    grant(admin, STATUS, rule("resourceclaims/driver", "associated-node:patch", "other.example.com"))
    allocated(admin)
    assert report(driver).status == 422


def test_older_servers_ask_for_no_finer_rights() -> None:
    tokens = {ADMIN: User("admin", groups=("system:masters",)), "driver": DRIVER}
    server = ApiServer(authorize=True, tokens=tokens, gates=gates_of(35))
    admin = Asking(server, ADMIN)
    grant(admin, STATUS)
    allocated(admin)
    assert report(Asking(server, "driver")).status == 200
