"""The webhook's component fits its code: settings, rights, paths, probes. It fails open; no allocation waits for it."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Final

import pytest
import yaml

from driver import __version__
from driver import settings as shared
from driver.cli.commands import COMMANDS
from driver.core.reviewing import subjects
from driver.webhook import serving
from driver.webhook import settings as settings_module
from driver.webhook.settings import WebhookSettings
from tests.fakes import kustomize
from tests.fakes.kustomize import Object, items, mapping

DEPLOY: Final = Path(__file__).resolve().parents[2] / "deploy"
NAME: Final = "accel-dra-webhook"


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Object]:
    folder = tmp_path_factory.mktemp("overlay")
    components = [str(DEPLOY / "components" / name) for name in ("webhook", "webhook-cert-manager")]
    text = yaml.safe_dump({"kind": "Kustomization", "resources": [str(DEPLOY / "base")], "components": components})
    (folder / "kustomization.yaml").write_text(text)
    return {kustomize.identity(item): item for item in kustomize.render(folder)}


Objects = dict[tuple[str, str], Object]


def template(objects: Objects) -> Object:
    return mapping(mapping(objects["Deployment", NAME]["spec"])["template"])


def pod_spec(objects: Objects) -> Object:
    return mapping(template(objects)["spec"])


def container(objects: Objects) -> Object:
    (only,) = items(pod_spec(objects)["containers"])
    return mapping(only)


def configured(objects: Objects) -> WebhookSettings:
    names = {shared.variable(field): field.name for field in fields(WebhookSettings)}
    entries = map(mapping, items(container(objects)["env"]))
    return WebhookSettings(**{names[str(entry["name"])]: entry["value"] for entry in entries})  # type: ignore[arg-type]


def webhook(objects: Objects) -> Object:
    (only,) = items(objects["ValidatingWebhookConfiguration", NAME]["webhooks"])
    return mapping(only)


def test_the_command_and_each_variable_exist_and_are_accepted(objects: Objects) -> None:
    assert items(container(objects)["args"])[0] in COMMANDS
    settings_module.check(configured(objects))


def test_the_certificate_is_the_folder_of_a_secret_so_that_the_kubelet_swaps_it(objects: Objects) -> None:
    (volume,) = map(mapping, items(pod_spec(objects)["volumes"]))
    (mount,) = map(mapping, items(container(objects)["volumeMounts"]))
    assert mapping(volume["secret"])["secretName"] == NAME
    assert (mount["name"], mount["readOnly"]) == (volume["name"], True)
    assert "subPath" not in mount
    settings = configured(objects)
    assert settings.tls_cert_file == f"{mount['mountPath']}/tls.crt"
    assert settings.tls_key_file == f"{mount['mountPath']}/tls.key"


def test_cert_manager_makes_that_secret_for_the_name_of_the_service(objects: Objects) -> None:
    certificate = objects["Certificate", NAME]
    spec = mapping(certificate["spec"])
    assert spec["secretName"] == NAME
    service = mapping(mapping(webhook(objects)["clientConfig"])["service"])
    assert f"{service['name']}.{service['namespace']}.svc" in items(spec["dnsNames"])
    annotations = mapping(mapping(objects["ValidatingWebhookConfiguration", NAME]["metadata"])["annotations"])
    meta = mapping(certificate["metadata"])
    assert annotations["cert-manager.io/inject-ca-from"] == f"{meta['namespace']}/{meta['name']}"
    assert ("Issuer", mapping(spec["issuerRef"])["name"]) in objects


def test_it_is_asked_about_every_kind_in_every_version_and_about_nothing_else(objects: Objects) -> None:
    (rule,) = map(mapping, items(webhook(objects)["rules"]))
    assert rule["apiGroups"] == [subjects.GROUP]
    assert set(items(rule["apiVersions"])) == set(subjects.VERSIONS)
    plural = {f"{kind.lower()}{'es' if kind.endswith('s') else 's'}" for kind in subjects.KINDS}
    assert set(items(rule["resources"])) == plural
    assert rule["operations"] == ["CREATE", "UPDATE"]


def test_it_fails_open_and_quickly_and_allocations_do_not_pass_it(objects: Objects) -> None:
    entry = webhook(objects)
    assert (entry["failurePolicy"], entry["matchPolicy"], entry["sideEffects"]) == ("Ignore", "Equivalent", "None")
    assert entry["admissionReviewVersions"] == ["v1"]
    seconds = entry["timeoutSeconds"]
    assert isinstance(seconds, int)
    assert configured(objects).review_time < seconds <= 5
    (rule,) = map(mapping, items(entry["rules"]))
    assert not [name for name in items(rule["resources"]) if "/" in str(name) or "*" in str(name)]


def test_the_service_leads_to_the_served_port_and_path(objects: Objects) -> None:
    client = mapping(mapping(webhook(objects)["clientConfig"])["service"])
    service = objects["Service", str(client["name"])]
    assert mapping(service["metadata"])["namespace"] == client["namespace"]
    assert client["path"] == serving.PATH
    (port,) = map(mapping, items(mapping(service["spec"])["ports"]))
    assert port["port"] == client["port"]
    ports = {mapping(each)["name"]: mapping(each)["containerPort"] for each in items(container(objects)["ports"])}
    settings = configured(objects)
    assert ports[str(port["targetPort"])] == int(settings.address.rpartition(":")[2])
    assert ports["metrics"] == int(settings.metrics_address.rpartition(":")[2])
    labels = mapping(mapping(template(objects)["metadata"])["labels"])
    budget = mapping(mapping(objects["PodDisruptionBudget", NAME]["spec"])["selector"])["matchLabels"]
    chosen = mapping(mapping(objects["Deployment", NAME]["spec"])["selector"])["matchLabels"]
    for selector in (mapping(service["spec"])["selector"], budget, chosen):
        assert mapping(selector).items() <= labels.items()
        assert "app.kubernetes.io/version" not in mapping(selector)


def test_two_run_without_any_privilege(objects: Objects) -> None:
    assert mapping(objects["Deployment", NAME]["spec"])["replicas"] == 2
    spec = pod_spec(objects)
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec)
    context = mapping(spec["securityContext"])
    assert (context["runAsNonRoot"], context["seccompProfile"]) == (True, {"type": "RuntimeDefault"})
    assert container(objects)["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def test_probes_use_the_served_pages_and_the_end_has_its_time(objects: Objects) -> None:
    paths = {
        probe: mapping(mapping(container(objects)[f"{probe}Probe"])["httpGet"]) for probe in ("liveness", "readiness")
    }
    assert {probe: get["path"] for probe, get in paths.items()} == {"liveness": "/healthz", "readiness": "/readyz"}
    assert {get["port"] for get in paths.values()} == {"metrics"}
    grace = pod_spec(objects)["terminationGracePeriodSeconds"]
    assert isinstance(grace, int)
    assert grace > 2 * configured(objects).shutdown_delay


def test_the_image_is_that_of_the_plugin(objects: Objects) -> None:
    (plugin,) = items(
        mapping(mapping(mapping(objects["DaemonSet", "accel-dra-node"]["spec"])["template"])["spec"])["containers"]
    )
    assert container(objects)["image"] == mapping(plugin)["image"]
    assert str(container(objects)["image"]).endswith(f":{__version__}")


def test_its_rights_are_to_read_slices_and_classes(objects: Objects) -> None:
    (rule,) = map(mapping, items(objects["ClusterRole", NAME]["rules"]))
    assert rule["verbs"] == ["list", "watch"]
    assert rule["resources"] == ["resourceslices", "deviceclasses"]
    binding = objects["ClusterRoleBinding", NAME]
    account = pod_spec(objects)["serviceAccountName"]
    assert items(binding["subjects"]) == [{"kind": "ServiceAccount", "name": account, "namespace": "accel-dra"}]
    assert ("ServiceAccount", str(account)) in objects
