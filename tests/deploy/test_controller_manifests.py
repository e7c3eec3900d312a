"""The controller's Deployment fits its code: settings, lease, rights, probes; and it has no privilege at all."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Final

import pytest

from driver import settings as shared
from driver.cli.commands import COMMANDS
from driver.controller import settings as settings_module
from driver.controller.settings import ControllerSettings
from tests.fakes import kustomize
from tests.fakes.kustomize import Object, items, mapping

DEPLOY: Final = Path(__file__).resolve().parents[2] / "deploy"
INSTALLATIONS: Final = ("base", "overlays/simulated", "overlays/driver-container")
NAME: Final = "accel-dra-controller"


def find(kind: str, installation: str = "base") -> Object:
    objects = {kustomize.identity(item): item for item in kustomize.render(DEPLOY / installation)}
    return objects[kind, NAME]


def template(installation: str = "base") -> Object:
    return mapping(mapping(find("Deployment", installation)["spec"])["template"])


def pod_spec(installation: str = "base") -> Object:
    return mapping(template(installation)["spec"])


def container(installation: str = "base") -> Object:
    (only,) = items(pod_spec(installation)["containers"])
    return mapping(only)


def configured() -> ControllerSettings:
    """The settings that the process gets in a pod of this name."""
    sources = {"metadata.namespace": "accel-dra", "metadata.name": f"{NAME}-7d4b9c"}
    names = {shared.variable(field): field.name for field in fields(ControllerSettings)}
    values: dict[str, object] = {}
    for entry in map(mapping, items(container()["env"])):
        source = entry.get("valueFrom")
        path = mapping(mapping(source)["fieldRef"])["fieldPath"] if source else ""
        values[names[str(entry["name"])]] = sources[str(path)] if path else entry["value"]
    return ControllerSettings(**values)  # type: ignore[arg-type]


def test_the_command_and_each_variable_exist_and_are_accepted() -> None:
    assert items(container()["args"])[0] in COMMANDS
    options = settings_module.check(configured())
    assert (options.namespace, options.pod_name) == ("accel-dra", f"{NAME}-7d4b9c")


def test_the_lease_is_the_one_that_the_role_allows() -> None:
    role = find("Role")
    named = [name for rule in map(mapping, items(role["rules"])) for name in items(rule.get("resourceNames"))]
    assert named == [configured().lease_name]
    assert mapping(role["metadata"])["namespace"] == configured().namespace


@pytest.mark.parametrize("kind", ["Role", "ClusterRole"])
def test_roles_are_bound_to_the_account_of_the_pods(kind: str) -> None:
    binding = find(f"{kind}Binding")
    account = pod_spec()["serviceAccountName"]
    assert items(binding["subjects"]) == [{"kind": "ServiceAccount", "name": account, "namespace": "accel-dra"}]
    assert (mapping(binding["roleRef"])["kind"], mapping(binding["roleRef"])["name"]) == (kind, NAME)
    assert mapping(find("ServiceAccount")["metadata"])["name"] == account


@pytest.mark.parametrize("installation", INSTALLATIONS)
def test_it_has_no_privilege_and_sees_nothing_of_its_node(installation: str) -> None:
    spec = pod_spec(installation)
    assert not {"volumes", "hostNetwork", "hostPID", "hostIPC"} & set(spec)
    context = mapping(spec["securityContext"])
    assert context["runAsNonRoot"] is True
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container(installation)["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def test_its_role_changes_claims_and_nothing_else_of_the_cluster() -> None:
    writes = {
        (resource, verb)
        for rule in map(mapping, items(find("ClusterRole")["rules"]))
        for resource in items(rule["resources"])
        for verb in items(rule["verbs"])
        if verb not in ("get", "list", "watch")
    }
    assert writes == {
        ("resourceclaims", "patch"),
        ("resourceclaims", "update"),
        ("resourceclaims/status", "patch"),
        ("resourceclaims/binding", "patch"),
        ("events", "create"),
        ("events", "patch"),
    }


def test_two_run_on_two_nodes_and_one_stays_while_nodes_are_drained() -> None:
    spec = mapping(find("Deployment")["spec"])
    assert spec["replicas"] == 2
    (term,) = items(
        mapping(mapping(pod_spec()["affinity"])["podAntiAffinity"])["preferredDuringSchedulingIgnoredDuringExecution"]
    )
    wanted = mapping(mapping(mapping(term)["podAffinityTerm"])["labelSelector"])["matchLabels"]
    budget = mapping(find("PodDisruptionBudget")["spec"])
    assert budget["maxUnavailable"] == 1
    labels = mapping(mapping(template()["metadata"])["labels"])
    for selector in (wanted, mapping(budget["selector"])["matchLabels"], mapping(spec["selector"])["matchLabels"]):
        assert mapping(selector).items() <= labels.items()
        assert "app.kubernetes.io/version" not in mapping(selector)


def test_probes_and_metrics_use_the_served_port() -> None:
    port = int(configured().metrics_address.rpartition(":")[2])
    assert items(container()["ports"]) == [{"name": "metrics", "containerPort": port}]
    paths = {probe: mapping(mapping(container()[f"{probe}Probe"])["httpGet"]) for probe in ("liveness", "readiness")}
    assert {probe: get["path"] for probe, get in paths.items()} == {"liveness": "/healthz", "readiness": "/readyz"}
    assert {get["port"] for get in paths.values()} == {"metrics"}
    annotations = mapping(mapping(template()["metadata"])["annotations"])
    assert annotations["prometheus.io/port"] == str(port)


def test_it_is_given_the_time_to_give_its_lease_back() -> None:
    grace = pod_spec()["terminationGracePeriodSeconds"]
    assert isinstance(grace, int)
    assert grace > configured().lease_duration


def test_the_image_is_that_of_the_plugin() -> None:
    daemon = next(item for item in kustomize.render(DEPLOY / "base") if item["kind"] == "DaemonSet")
    (plugin,) = items(mapping(mapping(mapping(daemon["spec"])["template"])["spec"])["containers"])
    assert container()["image"] == mapping(plugin)["image"]
