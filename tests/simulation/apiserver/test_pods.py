"""Pods as a DRA scheduler and driver meet them: defaults, claims, gates, binding, status, graceful deletion."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from driver.simulation.apiserver.strategies.pod_defaults import default_pod_spec, quality_of_service
from tests.simulation.apiserver.asking import MERGE, STRATEGIC, Asking, a_pod

PODS = "/api/v1/namespaces/default/pods"
CLAIM = {"name": "gpu", "resourceClaimName": "c"}


def container(**fields: Any) -> dict[str, Any]:
    return {"name": "main", "image": "example:1", **fields}


@pytest.mark.parametrize(
    ("image", "policy"),
    [
        ("example", "Always"),
        ("example:latest", "Always"),
        ("example:1", "IfNotPresent"),
        ("registry:5000/example", "Always"),
        ("registry:5000/example:1", "IfNotPresent"),
        ("example@sha256:" + "0" * 64, "IfNotPresent"),
    ],
)
def test_the_pull_policy_follows_the_image(image: str, policy: str) -> None:
    spec: Any = {"containers": [{"name": "main", "image": image}]}
    default_pod_spec(spec)
    assert spec["containers"][0]["imagePullPolicy"] == policy


def test_type_defaults_fill_in_what_the_api_documents() -> None:
    spec: Any = {
        "hostNetwork": True,
        "containers": [
            container(
                ports=[{"containerPort": 80}],
                livenessProbe={"httpGet": {"port": 80}},
                readinessProbe={"grpc": {"port": 81}, "periodSeconds": 3},
                env=[{"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}],
                resources={"limits": {"cpu": "1"}},
            )
        ],
        "volumes": [
            {"name": "empty"},
            {"name": "host", "hostPath": {"path": "/dev"}},
            {"name": "secret", "secret": {"secretName": "s"}},
            {"name": "token", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}},
            {"name": "down", "downwardAPI": {"items": [{"path": "p", "fieldRef": {"fieldPath": "metadata.name"}}]}},
        ],
    }
    default_pod_spec(spec)
    assert (spec["restartPolicy"], spec["dnsPolicy"]) == ("Always", "ClusterFirst")
    assert (spec["schedulerName"], spec["terminationGracePeriodSeconds"]) == ("default-scheduler", 30)
    (main,) = spec["containers"]
    assert main["ports"] == [{"containerPort": 80, "protocol": "TCP", "hostPort": 80}]
    assert main["livenessProbe"] == {
        "httpGet": {"port": 80, "path": "/", "scheme": "HTTP"},
        "timeoutSeconds": 1,
        "periodSeconds": 10,
        "successThreshold": 1,
        "failureThreshold": 3,
    }
    assert main["readinessProbe"]["grpc"] == {"port": 81, "service": ""}
    assert main["readinessProbe"]["periodSeconds"] == 3
    assert main["env"][0]["valueFrom"]["fieldRef"]["apiVersion"] == "v1"
    assert main["resources"]["requests"] == {"cpu": "1"}
    empty, host, secret, token, down = spec["volumes"]
    assert empty["emptyDir"] == {}
    assert host["hostPath"] == {"path": "/dev", "type": ""}
    assert secret["secret"]["defaultMode"] == 0o644
    assert token["projected"]["sources"][0]["serviceAccountToken"]["expirationSeconds"] == 3600
    assert down["downwardAPI"]["items"][0]["fieldRef"]["apiVersion"] == "v1"


@pytest.mark.parametrize(
    ("resources", "quality"),
    [
        ([{}], "BestEffort"),
        ([{"limits": {"example.com/gpu": "1"}}], "BestEffort"),
        ([{"requests": {"cpu": "1"}}], "Burstable"),
        ([{"limits": {"cpu": "1", "memory": "1Gi"}}], "Guaranteed"),
        ([{"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "500m"}}], "Burstable"),
        ([{"limits": {"cpu": "1", "memory": "1Gi"}}, {}], "Burstable"),
    ],
)
def test_quality_of_service_follows_cpu_and_memory(resources: list[Any], quality: str) -> None:
    assert quality_of_service({"containers": [{"name": "x", "resources": one} for one in resources]}) == quality


def test_admission_adds_account_token_tolerations_and_priority(api: Asking) -> None:
    made = api.ok("POST", PODS, a_pod())
    spec = made["spec"]
    assert (spec["serviceAccountName"], spec["serviceAccount"]) == ("default", "default")
    assert (spec["priority"], spec["preemptionPolicy"]) == (0, "PreemptLowerPriority")
    assert [one["key"] for one in spec["tolerations"]] == [
        "node.kubernetes.io/not-ready",
        "node.kubernetes.io/unreachable",
    ]
    (volume,) = spec["volumes"]
    assert volume["name"].startswith("kube-api-access-")
    assert spec["containers"][0]["volumeMounts"][0]["name"] == volume["name"]
    assert made["status"] == {"phase": "Pending", "qosClass": "BestEffort"}


def test_what_a_pod_has_of_these_is_kept(api: Asking) -> None:
    own = {"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute"}
    spec: dict[str, Any] = {
        "automountServiceAccountToken": False,
        "tolerations": [own],
        "priorityClassName": "system-node-critical",
    }
    made = api.ok("POST", PODS, a_pod(**spec))["spec"]
    assert "volumes" not in made
    assert made["priority"] == 2000001000
    assert made["tolerations"][0] == own
    assert len(made["tolerations"]) == 2
    mounted = container(volumeMounts=[{"name": "t", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount"}])
    other = a_pod(
        "q", containers=[mounted], volumes=[{"name": "t", "emptyDir": {}}], tolerations=[{"operator": "Exists"}]
    )
    kept = api.ok("POST", PODS, other)["spec"]
    assert len(kept["volumes"]) == 1
    assert len(kept["tolerations"]) == 1


def test_an_account_must_exist(api: Asking) -> None:
    assert api.refused("POST", PODS, a_pod(serviceAccountName="nobody")) == (
        403,
        'pods "p" is forbidden: error looking up service account default/nobody: serviceaccount "nobody" not found',
    )
    account = {"metadata": {"name": "quiet"}, "automountServiceAccountToken": False}
    api.ok("POST", "/api/v1/namespaces/default/serviceaccounts", account)
    assert "volumes" not in api.ok("POST", PODS, a_pod(serviceAccountName="quiet"))["spec"]


@pytest.mark.parametrize(
    ("spec", "fault"),
    [
        ({"containers": []}, "spec.containers: Required value"),
        ({"containers": [{"name": "", "image": "x"}]}, "spec.containers[0].name: Required value"),
        ({"containers": [{"name": "A", "image": "x"}]}, "spec.containers[0].name: Invalid value"),
        ({"containers": [{"name": "a"}]}, "spec.containers[0].image: Required value"),
        ({"resourceClaims": [{"name": "gpu"}]}, "must specify one of: `resourceClaimName`"),
        ({"resourceClaims": [{**CLAIM, "resourceClaimTemplateName": "t"}]}, "at most one of `resourceClaimName`"),
        ({"resourceClaims": [CLAIM, CLAIM]}, 'spec.resourceClaims[1].name: Duplicate value: "gpu"'),
        ({"resourceClaims": [{"resourceClaimName": "c"}]}, "spec.resourceClaims[0].name: Required value"),
        (
            {"resourceClaims": [{**CLAIM, "resourceClaimName": "A"}]},
            "spec.resourceClaims[0].resourceClaimName: Invalid",
        ),
        (
            {"containers": [container(resources={"claims": [{"name": "gpu"}]})]},
            'claims[0]: Not found: "gpu": must be one of the names in pod.spec.resourceClaims which is empty',
        ),
        (
            {"resourceClaims": [CLAIM], "containers": [container(resources={"claims": [{"name": "x"}]})]},
            "must be one of the names in pod.spec.resourceClaims: gpu",
        ),
        (
            {"resourceClaims": [CLAIM], "containers": [container(resources={"claims": [{}]})]},
            "resources.claims[0].name: Required value",
        ),
        (
            {
                "resourceClaims": [CLAIM],
                "containers": [container(resources={"claims": [{"name": "gpu"}, {"name": "gpu", "request": "r"}]})],
            },
            'resources.claims[1]: Duplicate value: "gpu"',
        ),
        ({"schedulingGates": [{"name": "g"}], "nodeName": "n"}, "until all schedulingGates have been cleared"),
    ],
)
def test_faults_of_specs_are_named(api: Asking, spec: dict[str, Any], fault: str) -> None:
    code, message = api.refused("POST", PODS, a_pod(**spec))
    assert code == 422
    assert fault in message


def test_a_gated_pod_waits_and_gates_only_go(api: Asking) -> None:
    made = api.ok("POST", PODS, a_pod(schedulingGates=[{"name": "a"}, {"name": "b"}]))
    assert made["status"]["conditions"][0]["reason"] == "SchedulingGated"
    more = {"spec": {"schedulingGates": [{"name": "c"}]}}
    assert "only deletion is allowed" in api.refused("PATCH", f"{PODS}/p", more, content_type=MERGE)[1]
    chosen = {"spec": {"schedulingGates": [{"name": "b"}], "nodeSelector": {"zone": "z"}}}
    assert api.ok("PATCH", f"{PODS}/p", chosen, content_type=MERGE)["spec"]["nodeSelector"] == {"zone": "z"}
    binding = {"target": {"kind": "Node", "name": "n"}}
    assert api.answer("POST", f"{PODS}/p/binding", binding).status >= 400
    api.ok("PATCH", f"{PODS}/p", {"spec": {"schedulingGates": None}}, content_type=MERGE)
    late = {"spec": {"nodeSelector": {"zone": "other"}}}
    assert "pod updates may not change" in api.refused("PATCH", f"{PODS}/p", late, content_type=MERGE)[1]


def test_few_fields_of_a_pod_may_change(api: Asking) -> None:
    made = api.ok("POST", PODS, a_pod(resourceClaims=[CLAIM]))
    image = {"spec": {"containers": [{"name": "main", "image": "example:2"}]}}
    after = api.ok("PATCH", f"{PODS}/p", image, content_type=STRATEGIC)
    assert after["spec"]["containers"][0]["image"] == "example:2"
    toleration = {"key": "a", "operator": "Exists"}
    after["spec"]["tolerations"].append(toleration)
    assert toleration in api.ok("PUT", f"{PODS}/p", after)["spec"]["tolerations"]
    fewer = copy.deepcopy(made)
    del fewer["metadata"]["resourceVersion"]
    assert api.refused("PUT", f"{PODS}/p", fewer)[0] == 422
    other = {"spec": {"resourceClaims": [{"name": "gpu", "resourceClaimName": "d"}]}}
    code, message = api.refused("PATCH", f"{PODS}/p", other, content_type=STRATEGIC)
    assert (code, "pod updates may not change fields other than" in message) == (422, True)


def test_a_binding_sets_the_node_once(api: Asking) -> None:
    api.ok("POST", PODS, a_pod())
    api.ok("POST", f"{PODS}/p/binding", {"target": {"kind": "Node", "name": "node-a"}})
    bound = api.ok("GET", f"{PODS}/p")
    assert bound["spec"]["nodeName"] == "node-a"
    (scheduled,) = bound["status"]["conditions"]
    assert (scheduled["type"], scheduled["status"]) == ("PodScheduled", "True")
    assert api.refused("POST", f"{PODS}/p/binding", {"target": {"kind": "Node", "name": "b"}})[0] == 409
    chosen = api.ok("GET", "/api/v1/pods?fieldSelector=spec.nodeName=node-a,status.phase=Pending")
    assert [one["metadata"]["name"] for one in chosen["items"]] == ["p"]


@pytest.mark.parametrize(
    ("status", "fault"),
    [
        ({"resourceClaimStatuses": [{"name": "other"}]}, "must match the name of an entry in `spec.resourceClaims`"),
        (
            {"resourceClaimStatuses": [{"name": "gpu", "resourceClaimName": "A"}]},
            "resourceClaimStatuses[0].resourceClaimName: Invalid value",
        ),
        ({"claims": [{"name": "claim:gpu/other"}]}, "must match one of the container's resource claims"),
        ({"claims": [{"name": "a b"}]}, "allocatedResourcesStatus[0].name: Invalid value"),
        (
            {"claims": [{"name": "claim:gpu/r", "resources": [{"resourceID": "x", "health": "Ill"}]}]},
            'health: Unsupported value: "Ill"',
        ),
        (
            {"claims": [{"name": "claim:gpu/r", "resources": [{"resourceID": "x"}, {"resourceID": "x"}]}]},
            'resources[1].resourceID: Duplicate value: "x"',
        ),
    ],
)
def test_faults_of_statuses_are_named(api: Asking, status: dict[str, Any], fault: str) -> None:
    claims = [{"name": "gpu", "request": "r"}]
    api.ok("POST", PODS, a_pod(resourceClaims=[CLAIM], containers=[container(resources={"claims": claims})]))
    if "claims" in status:
        shown = {"image": "example:1", "imageID": "", "ready": True, "restartCount": 0}
        status = {"containerStatuses": [{"name": "main", "allocatedResourcesStatus": status["claims"], **shown}]}
    code, message = api.refused("PATCH", f"{PODS}/p/status", {"status": status}, content_type=MERGE)
    assert code == 422
    assert fault in message


def test_health_of_claims_is_taken(api: Asking) -> None:
    claims = [{"name": "gpu", "request": "r"}]
    api.ok("POST", PODS, a_pod(resourceClaims=[CLAIM], containers=[container(resources={"claims": claims})]))
    health = [{"name": "claim:gpu/r", "resources": [{"resourceID": "x", "health": "Unhealthy"}]}]
    shown = {"name": "main", "image": "example:1", "imageID": "", "ready": True, "restartCount": 0}
    status = {"status": {"containerStatuses": [{**shown, "allocatedResourcesStatus": health}], "qosClass": "Other"}}
    after = api.ok("PATCH", f"{PODS}/p/status", status, content_type=MERGE)["status"]
    assert after["containerStatuses"][0]["allocatedResourcesStatus"] == health
    assert after["qosClass"] == "BestEffort"


def test_a_status_write_leaves_the_spec_and_a_spec_write_leaves_the_status(api: Asking) -> None:
    made = api.ok("POST", PODS, a_pod())
    both = copy.deepcopy(made)
    both["spec"]["activeDeadlineSeconds"] = 5
    both["status"]["phase"] = "Running"
    after = api.ok("PUT", f"{PODS}/p/status", both)
    assert ("activeDeadlineSeconds" in after["spec"], after["status"]["phase"]) == (False, "Running")
    after["spec"]["activeDeadlineSeconds"] = 5
    after["status"]["phase"] = "Failed"
    again = api.ok("PUT", f"{PODS}/p", after)
    assert (again["spec"]["activeDeadlineSeconds"], again["status"]["phase"]) == (5, "Running")


@pytest.mark.parametrize(
    ("bound", "phase", "query", "grace"),
    [
        (False, "Pending", "", None),
        (True, "Running", "", 30),
        (True, "Running", "?gracePeriodSeconds=7", 7),
        (True, "Running", "?gracePeriodSeconds=0", None),
        (True, "Succeeded", "", None),
    ],
)
def test_running_pods_get_time_to_stop(api: Asking, bound: bool, phase: str, query: str, grace: int | None) -> None:
    api.ok("POST", PODS, a_pod())
    if bound:
        api.ok("POST", f"{PODS}/p/binding", {"target": {"kind": "Node", "name": "n"}})
    api.ok("PATCH", f"{PODS}/p/status", {"status": {"phase": phase}}, content_type=MERGE)
    api.ok("DELETE", f"{PODS}/p{query}")
    left = api.answer("GET", f"{PODS}/p")
    if grace is None:
        assert left.status == 404
        return
    meta = api.ok("GET", f"{PODS}/p")["metadata"]
    assert meta["deletionGracePeriodSeconds"] == grace
    shorter = api.ok("DELETE", f"{PODS}/p?gracePeriodSeconds=1")["metadata"]
    assert shorter["deletionGracePeriodSeconds"] == 1
    api.ok("DELETE", f"{PODS}/p?gracePeriodSeconds=0")
    assert api.answer("GET", f"{PODS}/p").status == 404


def test_an_eviction_deletes_and_heeds_its_uid(api: Asking) -> None:
    api.ok("POST", PODS, a_pod())
    wrong = {"metadata": {"name": "p"}, "deleteOptions": {"preconditions": {"uid": "other"}}}
    assert api.refused("POST", f"{PODS}/p/eviction", wrong)[0] == 409
    api.ok("POST", f"{PODS}/p/eviction", {"metadata": {"name": "p"}, "deleteOptions": {"gracePeriodSeconds": 0}})
    assert api.answer("GET", f"{PODS}/p").status == 404
