"""kubectl against our server: get, describe, apply both ways, watch, edit, delete, and what admins ask."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from driver.simulation.apiserver import ApiServer, Options, User
from driver.simulation.apiserver.values import JsonObject, obj, text
from tests.simulation.apiserver.asking import a_claim, a_pod, a_slice, an_allocation

pytestmark = pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")

BASE = Path(__file__).parents[3] / "deploy" / "base"
PATIENCE = 50


class Kubectl:
    """kubectl with a kubeconfig and a home of its own."""

    def __init__(self, server: ApiServer, folder: Path, token: str = "") -> None:
        self.server = server
        config = server.kubeconfig(folder / f"config{token}", token=token)
        self.environment = {"PATH": os.environ["PATH"], "KUBECONFIG": str(config), "HOME": str(folder)}

    def run(self, *words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["kubectl", *words],
            input=stdin,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )

    def __call__(self, *words: str, stdin: str = "") -> str:
        done = self.run(*words, stdin=stdin)
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture
def running() -> Iterator[ApiServer]:
    with ApiServer() as server:
        yield server


@pytest.fixture
def kubectl(running: ApiServer, tmp_path: Path) -> Kubectl:
    return Kubectl(running, tmp_path)


def rows(output: str) -> list[list[str]]:
    return [line.split() for line in output.splitlines()]


def test_get_prints_our_columns(kubectl: Kubectl) -> None:
    kubectl.server.store.create(a_slice())
    kubectl.server.store.create(a_claim())
    header, row = rows(kubectl("get", "resourceslices"))
    assert header == ["NAME", "NODE", "DRIVER", "POOL", "AGE"]
    assert row[:4] == ["s", "node-a", "gpu.example.com", "node-a"]
    kubectl.server.store.patch(
        "resourceclaims", "c", {"status": {"allocation": an_allocation()}}, "default", subresource="status"
    )
    header, row = rows(kubectl("get", "resourceclaims"))
    assert (header, row[:2]) == (["NAME", "STATE", "AGE"], ["c", "allocated"])


def test_get_knows_short_names_selectors_and_output_forms(kubectl: Kubectl) -> None:
    kubectl.server.store.create({"kind": "Node", "apiVersion": "v1", "metadata": {"name": "n", "labels": {"a": "b"}}})
    assert rows(kubectl("get", "no", "--no-headers", "-l", "a=b"))[0][:2] == ["n", "Unknown"]
    assert kubectl("get", "no", "-l", "a!=b", "-o", "name") == ""
    assert kubectl("get", "node/n", "-o", "jsonpath={.metadata.labels.a}") == "b"
    assert yaml.safe_load(kubectl("get", "node", "n", "-o", "yaml"))["metadata"]["name"] == "n"
    assert "not found" in kubectl.run("get", "node", "other").stderr


def test_watching_shows_each_change(kubectl: Kubectl) -> None:
    kubectl.server.store.create(a_slice("a"))
    command = ["kubectl", "get", "resourceslices", "-w", "-o", "name"]
    process = subprocess.Popen(command, env=kubectl.environment, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == "resourceslice.resource.k8s.io/a"
        kubectl.server.store.create(a_slice("b"))
        assert process.stdout.readline().strip() == "resourceslice.resource.k8s.io/b"
    finally:
        process.kill()
        process.communicate()


def test_describe_shows_events_of_the_object(kubectl: Kubectl) -> None:
    claim = kubectl.server.store.create(a_claim())
    event: JsonObject = {
        "kind": "Event",
        "apiVersion": "v1",
        "metadata": {"name": "e", "namespace": "default"},
        "involvedObject": {
            "kind": "ResourceClaim",
            "namespace": "default",
            "name": "c",
            "uid": text(obj(claim["metadata"])["uid"]),
        },
        "reason": "PrepareFailed",
        "message": "no such device",
        "type": "Warning",
    }
    kubectl.server.store.create(event)
    shown = kubectl("describe", "resourceclaim", "c")
    assert "Device Class Name:  gpu.example.com" in shown
    assert "PrepareFailed" in shown
    kubectl.server.store.create(a_pod())
    assert "Service Account:  default" in kubectl("describe", "pod", "p")


@pytest.mark.parametrize("server_side", [False, True])
def test_apply_creates_configures_and_notices_what_is_unchanged(kubectl: Kubectl, server_side: bool) -> None:
    flags = ["--server-side"] if server_side else []
    value = a_slice(devices=[{"name": "gpu-0"}])
    assert "created" in kubectl("apply", *flags, "-f", "-", stdin=json.dumps(value)) or server_side
    before = kubectl.server.store.get("resourceslices", "s")
    kubectl("apply", *flags, "-f", "-", stdin=json.dumps(value))
    assert kubectl.server.store.get("resourceslices", "s") == before
    value["spec"]["devices"].append({"name": "gpu-1"})
    kubectl("apply", *flags, "-f", "-", stdin=json.dumps(value))
    spec = kubectl.server.store.get("resourceslices", "s")["spec"]
    assert isinstance(spec, dict)
    assert spec["devices"] == [{"name": "gpu-0"}, {"name": "gpu-1"}]


def test_apply_removes_what_the_file_no_longer_has(kubectl: Kubectl) -> None:
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n", "labels": {"a": "1", "b": "2"}}}
    kubectl("apply", "-f", "-", stdin=json.dumps(node))
    node["metadata"] = {"name": "n", "labels": {"a": "1"}}
    kubectl("apply", "-f", "-", stdin=json.dumps(node))
    assert kubectl("get", "node", "n", "-o", "jsonpath={.metadata.labels}") == '{"a":"1"}'


def test_unknown_fields_are_refused_by_default(kubectl: Kubectl) -> None:
    value = a_slice(colour="red")
    refused = kubectl.run("apply", "-f", "-", stdin=json.dumps(value))
    assert refused.returncode != 0
    assert 'unknown field "spec.colour"' in refused.stderr
    warned = kubectl.run("apply", "--validate=warn", "-f", "-", stdin=json.dumps(value))
    assert warned.returncode == 0
    assert 'Warning: unknown field "spec.colour"' in warned.stderr


@pytest.mark.skipif(not (BASE / "kustomization.yaml").exists(), reason="deploy/base is not part of this checkout")
def test_the_whole_installation_is_applied_twice(kubectl: Kubectl) -> None:
    first = kubectl("apply", "-k", str(BASE))
    assert "daemonset.apps/" in first
    assert "created" in first
    second = kubectl("apply", "-k", str(BASE))
    assert "created" not in second
    assert kubectl("diff", "-k", str(BASE)) == ""


def test_label_annotate_patch_scale_of_words(kubectl: Kubectl) -> None:
    kubectl.server.store.create({"kind": "Node", "apiVersion": "v1", "metadata": {"name": "n"}})
    kubectl("label", "node", "n", "a=b")
    kubectl("annotate", "node", "n", "x=y")
    kubectl("taint", "node", "n", "k=v:NoSchedule")
    kubectl("cordon", "n")
    node = json.loads(kubectl("get", "node", "n", "-o", "json"))
    assert node["metadata"]["labels"] == {"a": "b"}
    assert node["metadata"]["annotations"] == {"x": "y"}
    assert node["spec"]["unschedulable"] is True
    assert {"key": "k", "value": "v", "effect": "NoSchedule"} in node["spec"]["taints"]
    kubectl("patch", "node", "n", "--type=json", "-p", '[{"op":"remove","path":"/spec/unschedulable"}]')
    assert "unschedulable" not in json.loads(kubectl("get", "node", "n", "-o", "json"))["spec"]


def test_delete_waits_until_the_object_is_gone(kubectl: Kubectl) -> None:
    kubectl.server.store.create(a_slice())
    assert 'resourceslice.resource.k8s.io "s" deleted' in kubectl("delete", "resourceslice", "s")
    kubectl("create", "namespace", "n")
    assert 'namespace "n" deleted' in kubectl("delete", "namespace", "n")
    assert "not found" in kubectl.run("get", "namespace", "n").stderr


def test_objects_are_made_of_arguments(kubectl: Kubectl) -> None:
    kubectl("create", "namespace", "n")
    kubectl("create", "configmap", "c", "--from-literal=k=v", "-n", "n")
    kubectl("create", "secret", "generic", "s", "--from-literal=k=v", "-n", "n")
    kubectl("create", "serviceaccount", "a", "-n", "n")
    kubectl("create", "clusterrole", "r", "--verb=get,list", "--resource=resourceclaims.resource.k8s.io")
    kubectl("create", "rolebinding", "b", "--clusterrole=r", "--serviceaccount=n:a", "-n", "n")
    kubectl("run", "p", "--image=example:1", "-n", "n")
    assert kubectl("get", "configmap", "c", "-n", "n", "-o", "jsonpath={.data.k}") == "v"
    assert kubectl("get", "secret", "s", "-n", "n", "-o", "jsonpath={.data.k}") == "dg=="
    role = json.loads(kubectl("get", "clusterrole", "r", "-o", "json"))
    assert role["rules"][0] == {
        "apiGroups": ["resource.k8s.io"],
        "resources": ["resourceclaims"],
        "verbs": ["get", "list"],
    }
    binding = json.loads(kubectl("get", "rolebinding", "b", "-n", "n", "-o", "json"))
    assert binding["subjects"] == [{"kind": "ServiceAccount", "name": "a", "namespace": "n"}]


def test_a_node_is_drained_and_an_object_edited(kubectl: Kubectl) -> None:
    kubectl.server.store.create({"kind": "Node", "apiVersion": "v1", "metadata": {"name": "node-a"}})
    kubectl.server.store.create(a_pod(nodeName="node-a"))
    kubectl("drain", "node-a", "--force", "--grace-period=0", "--timeout=20s")
    assert kubectl.server.store.list("pods") == []
    kubectl.server.store.create(a_slice(devices=[{"name": "gpu-0"}]))
    kubectl.environment["EDITOR"] = "sed -i s/gpu-0/gpu-7/"
    kubectl("edit", "resourceslice", "s")
    assert kubectl("get", "resourceslice", "s", "-o", "jsonpath={.spec.devices[*].name}") == "gpu-7"
    kubectl("wait", "--for=jsonpath={.spec.nodeName}=node-a", "resourceslice/s", "--timeout=20s")


def test_explain_and_api_resources_know_our_kinds(kubectl: Kubectl) -> None:
    assert "requests" in kubectl("explain", "resourceclaim.spec.devices")
    names = {row[0] for row in rows(kubectl("api-resources", "--api-group=resource.k8s.io", "--no-headers"))}
    assert names == {"deviceclasses", "resourceclaims", "resourceclaimtemplates", "resourceslices"}
    assert "Server Version: v1.36.2" in kubectl("version")


@pytest.mark.parametrize("secure", [False, True])
def test_rights_and_tokens_are_asked_for(tmp_path: Path, request: pytest.FixtureRequest, secure: bool) -> None:
    options: Options = {
        "authorize": True,
        "tokens": {"root": User("admin", groups=("system:masters",)), "guest": User("guest")},
    }
    if secure:
        options["certificate"] = request.getfixturevalue("certificate")
    with ApiServer(**options) as server:
        root, guest = Kubectl(server, tmp_path, "root"), Kubectl(server, tmp_path, "guest")
        assert root("auth", "can-i", "create", "pods").strip() == "yes"
        assert guest.run("auth", "can-i", "create", "pods").stdout.strip() == "no"
        assert "guest" in guest("auth", "whoami")
        assert "Forbidden" in guest.run("get", "pods").stderr
        assert root("create", "token", "default").count(".") == 2
