"""The manifests are complete, consistent with the code, and each optional part works without the others."""

from __future__ import annotations

import itertools
import re
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path
from typing import Final

import pytest
import yaml

from driver import __version__, settings, vendors
from driver.cli.commands import COMMANDS
from driver.kubelet import sockets
from driver.model import vocabulary
from tests.fakes import kustomize
from tests.fakes.kustomize import Object, items, mapping

ROOT: Final = Path(__file__).resolve().parents[2]
DEPLOY: Final = ROOT / "deploy"
INSTALLATIONS: Final = ("base", "overlays/simulated", "overlays/driver-container")
COMPONENTS: Final = tuple(sorted(path.name for path in (DEPLOY / "components").iterdir()))
DAEMONSET: Final = ("DaemonSet", "accel-dra-node")
UID: Final = "01234567-89ab-cdef-0123-456789abcdef"

STABLE_APIS: Final = {
    "Namespace": "v1",
    "ResourceQuota": "v1",
    "ServiceAccount": "v1",
    "ClusterRole": "rbac.authorization.k8s.io/v1",
    "Role": "rbac.authorization.k8s.io/v1",
    "RoleBinding": "rbac.authorization.k8s.io/v1",
    "PodDisruptionBudget": "policy/v1",
    "Deployment": "apps/v1",
    "ClusterRoleBinding": "rbac.authorization.k8s.io/v1",
    "ValidatingAdmissionPolicy": "admissionregistration.k8s.io/v1",
    "ValidatingAdmissionPolicyBinding": "admissionregistration.k8s.io/v1",
    "DeviceClass": "resource.k8s.io/v1",
    "DaemonSet": "apps/v1",
}


def rendered(name: str) -> dict[tuple[str, str], Object]:
    return {kustomize.identity(item): item for item in kustomize.render(DEPLOY / name)}


def with_components(folder: Path, names: Iterable[str]) -> dict[tuple[str, str], Object]:
    """Render base with these components, from a kustomization outside deploy/, as a user would write it."""
    base, components = DEPLOY / "base", [str(DEPLOY / "components" / name) for name in names]
    text = yaml.safe_dump({"kind": "Kustomization", "resources": [str(base)], "components": components})
    (folder / "kustomization.yaml").write_text(text)
    return {kustomize.identity(item): item for item in kustomize.render(folder)}


def pod_spec(objects: dict[tuple[str, str], Object]) -> Object:
    return mapping(mapping(mapping(objects[DAEMONSET]["spec"])["template"])["spec"])


def container(objects: dict[tuple[str, str], Object]) -> Object:
    (only,) = items(pod_spec(objects)["containers"])
    return mapping(only)


def environment(objects: dict[tuple[str, str], Object]) -> dict[str, str]:
    return {
        str(mapping(entry)["name"]): str(mapping(entry).get("value", "")) for entry in items(container(objects)["env"])
    }


def mounts(objects: dict[tuple[str, str], Object]) -> dict[str, str]:
    """Mount path to host path."""
    paths = {
        mapping(volume)["name"]: str(mapping(mapping(volume)["hostPath"])["path"])
        for volume in items(pod_spec(objects)["volumes"])
    }
    return {
        str(mapping(mount)["mountPath"]): paths[mapping(mount)["name"]]
        for mount in items(container(objects)["volumeMounts"])
    }


def ordered(value: object, name: str = "") -> object:
    """Sort the lists whose order kustomize does not promise."""
    if isinstance(value, dict):
        return {key: ordered(item, key) for key, item in value.items()}
    if isinstance(value, list) and name in kustomize.MERGE_KEYS:
        return sorted(map(ordered, value), key=lambda item: str(mapping(item)[kustomize.MERGE_KEYS[name]]))
    return value


@pytest.mark.parametrize("name", INSTALLATIONS)
def test_kubectl_renders_the_same(name: str) -> None:
    if not shutil.which("kubectl"):
        pytest.skip("kubectl is not installed")
    run = subprocess.run(["kubectl", "kustomize", str(DEPLOY / name)], capture_output=True, text=True, check=True)
    theirs = {kustomize.identity(item): ordered(item) for item in yaml.safe_load_all(run.stdout)}
    assert theirs == {key: ordered(item) for key, item in rendered(name).items()}


@pytest.mark.parametrize("name", INSTALLATIONS)
def test_peer_defect_14_every_object_is_of_a_stable_api(name: str) -> None:
    for (kind, _), item in rendered(name).items():
        assert item["apiVersion"] == STABLE_APIS[kind]


@pytest.mark.parametrize("name", INSTALLATIONS)
def test_names_are_unique_and_namespaces_are_ours(name: str) -> None:
    objects = kustomize.render(DEPLOY / name)
    assert len(rendered(name)) == len(objects)
    for item in objects:
        assert mapping(item["metadata"]).get("namespace", "accel-dra") == "accel-dra"


def test_every_file_is_used() -> None:
    """A manifest that no kustomization names would never be installed."""
    for path in DEPLOY.rglob("*.yaml"):
        if "examples" in path.parts or path.name == "kustomization.yaml":
            continue
        listed = yaml.safe_load((path.parent / "kustomization.yaml").read_text())
        named = [*listed.get("resources", []), *(entry["path"] for entry in listed.get("patches", []))]
        assert path.name in named, path


def test_the_version_is_the_drivers() -> None:
    objects = rendered("base")
    assert container(objects)["image"] == f"accel-dra:{__version__}"
    for item in objects.values():
        assert mapping(mapping(item["metadata"])["labels"])["app.kubernetes.io/version"] == __version__


@pytest.mark.parametrize("name", INSTALLATIONS)
def test_the_command_and_each_variable_exist(name: str) -> None:
    objects = rendered(name)
    assert items(container(objects)["args"])[0] in COMMANDS
    known = {settings.variable(field) for field in fields(settings.Settings)}
    assert {key for key in environment(objects) if key.startswith("ACCEL")} <= known
    settings.check(configured(objects))


def configured(objects: dict[tuple[str, str], Object]) -> settings.Settings:
    """The settings that the container's process gets, for pod UID and node name of some pod."""
    values = environment(objects) | {"ACCEL_DRA_NODE_NAME": "node-1", "ACCEL_DRA_POD_UID": UID}
    by_variable = {settings.variable(field): field.name for field in fields(settings.Settings)}
    known: dict[str, object] = {by_variable[key]: value for key, value in values.items() if key in by_variable}
    # As click reads the variable of an option that may be repeated.
    known = {key: value == "true" if value in {"true", "false"} else value for key, value in known.items()}
    known["vendor_options"] = tuple(values.get("ACCEL_DRA_VENDOR_OPTIONS", "").split())
    return settings.Settings(**known)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", INSTALLATIONS)
def test_node_name_and_pod_uid_come_from_the_pod(name: str) -> None:
    sources = {
        mapping(entry)["name"]: mapping(entry).get("valueFrom") for entry in items(container(rendered(name))["env"])
    }
    assert sources["ACCEL_DRA_NODE_NAME"] == {"fieldRef": {"fieldPath": "spec.nodeName"}}
    assert sources["ACCEL_DRA_POD_UID"] == {"fieldRef": {"fieldPath": "metadata.uid"}}


@pytest.mark.parametrize("name", INSTALLATIONS)
def test_folders_shared_with_the_kubelet_and_the_runtime_have_the_same_path_in_the_pod(name: str) -> None:
    objects = rendered(name)
    options = configured(objects)
    for folder in (options.data_dir, options.kubelet_registry_dir, options.cdi_root):
        assert mounts(objects)[folder] == folder


@pytest.mark.parametrize("name", INSTALLATIONS)
def test_socket_paths_with_the_pod_uid_fit_and_lie_in_mounted_folders(name: str) -> None:
    objects = rendered(name)
    options = configured(objects)
    paths = sockets.name(
        options.driver_name, options.kubelet_plugins_dir, options.kubelet_registry_dir, options.pod_uid
    )
    for path in (paths.dra, paths.registration):
        assert len(path) <= 107
        assert str(Path(path).parent) in mounts(objects)
    assert UID in paths.dra, "two pods of an upgrade share the folder"


@pytest.mark.parametrize("name", ["base", "overlays/driver-container"])
def test_the_plugin_sees_driver_and_devices_where_its_settings_say(name: str) -> None:
    objects = rendered(name)
    options = configured(objects)
    pairs = [
        (options.roots.driver_root, options.roots.driver_root_mount),
        (f"{options.dev_root.rstrip('/')}/dev", f"{options.roots.dev_root_mount.rstrip('/')}/dev"),
    ]
    for host, inside in pairs:
        assert any(
            inside.startswith(mount) and host.rstrip("/") == (path.rstrip("/") + inside.removeprefix(mount))
            for mount, path in mounts(objects).items()
        ), (host, inside, mounts(objects))


@pytest.mark.parametrize("name", INSTALLATIONS)
def test_no_host_folder_is_mounted_without_need(name: str) -> None:
    """Sysfs and procfs are in every container; nothing else of the host is the plugin's business."""
    wanted = {
        "base": {"/", "/dev"},
        "overlays/simulated": set(),
        "overlays/driver-container": {"/run/nvidia", "/dev"},
    }
    common = {"/var/lib/kubelet/plugins/gpu.accel-dra.dev", "/var/lib/kubelet/plugins_registry", "/var/run/cdi"}
    assert set(mounts(rendered(name)).values()) == wanted[name] | common


@pytest.mark.parametrize("name", INSTALLATIONS)
def test_driver_files_are_mounted_read_only(name: str) -> None:
    for mount in map(mapping, items(container(rendered(name))["volumeMounts"])):
        if str(mount["name"]).startswith("driver"):
            assert mount["readOnly"] is True


def test_simulated_nodes_have_devices_of_their_own() -> None:
    options = configured(rendered("overlays/simulated"))
    vendor = vendors.load(options.vendor, options.roots, settings.vendor_options(options))
    assert vendor.snapshot().accelerators
    assert settings.vendor_options(options)["seed"] == "$(ACCEL_DRA_NODE_NAME)"


@pytest.mark.parametrize("name", INSTALLATIONS)
def test_references_between_variables_look_back(name: str) -> None:
    """The kubelet leaves `$(NAME)` as it stands if NAME comes later; kubectl may order the list otherwise than we."""
    documents = [kustomize.render(DEPLOY / name)]
    if shutil.which("kubectl"):
        run = subprocess.run(["kubectl", "kustomize", str(DEPLOY / name)], capture_output=True, text=True, check=True)
        documents.append(list(yaml.safe_load_all(run.stdout)))
    for objects in documents:
        (daemonset,) = [item for item in objects if kustomize.identity(item) == DAEMONSET]
        known: set[str] = set()
        for entry in map(mapping, items(container({DAEMONSET: daemonset})["env"])):
            assert set(re.findall(r"\$\((\w+)\)", str(entry.get("value", "")))) <= known
            known.add(str(entry["name"]))


def test_the_namespace_admits_host_paths() -> None:
    labels = mapping(mapping(rendered("base")["Namespace", "accel-dra"]["metadata"])["labels"])
    assert labels["pod-security.kubernetes.io/enforce"] == "privileged"


@pytest.mark.parametrize("name", INSTALLATIONS)
def test_the_root_filesystem_of_the_container_is_read_only(name: str) -> None:
    assert mapping(container(rendered(name))["securityContext"])["readOnlyRootFilesystem"] is True


def test_only_real_hardware_needs_privileges(tmp_path: Path) -> None:
    assert mapping(container(rendered("base"))["securityContext"])["privileged"] is True
    for objects in (rendered("overlays/simulated"), with_components(tmp_path, ["unprivileged"])):
        assert container(objects)["securityContext"] == {
            "privileged": False,
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "runAsUser": 0,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        }


def test_an_upgrade_never_leaves_the_node_without_a_plugin() -> None:
    spec = mapping(rendered("base")[DAEMONSET]["spec"])
    assert spec["updateStrategy"] == {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}
    assert not any(mapping(port).get("hostPort") for port in items(container(rendered("base"))["ports"]))
    assert not pod_spec(rendered("base")).get("hostNetwork"), "two pods on a node could not share the metrics port"


def test_the_plugin_runs_first_and_everywhere() -> None:
    spec = pod_spec(rendered("base"))
    assert spec["priorityClassName"] == "system-node-critical"
    assert spec["tolerations"] == [{"operator": "Exists"}]
    quota = mapping(rendered("base")["ResourceQuota", "critical-pods"]["spec"])
    assert {"system-node-critical", "system-cluster-critical"} <= set(
        re.findall(r"system-[a-z-]+", str(quota["scopeSelector"]))
    )


def test_the_pod_outlives_a_prepare_in_flight() -> None:
    grace = pod_spec(rendered("base"))["terminationGracePeriodSeconds"]
    assert isinstance(grace, int)
    assert grace > settings.Settings().prepare_deadline


@pytest.mark.parametrize("name", INSTALLATIONS)
def test_probes_and_metrics_use_the_served_port(name: str) -> None:
    objects = rendered(name)
    port = int(configured(objects).metrics_address.rpartition(":")[2])
    assert items(container(objects)["ports"]) == [{"name": "metrics", "containerPort": port}]
    probes = {
        probe: mapping(mapping(container(objects)[f"{probe}Probe"])["httpGet"])
        for probe in ("startup", "liveness", "readiness")
    }
    assert {probe: value["path"] for probe, value in probes.items()} == {
        "startup": "/healthz",
        "liveness": "/healthz",
        "readiness": "/readyz",
    }
    assert {value["port"] for value in probes.values()} == {"metrics"}
    annotations = mapping(mapping(mapping(mapping(objects[DAEMONSET]["spec"])["template"])["metadata"])["annotations"])
    assert annotations["prometheus.io/port"] == str(port)


def test_the_selector_selects_the_pods() -> None:
    spec = mapping(rendered("base")[DAEMONSET]["spec"])
    selector = mapping(mapping(spec["selector"])["matchLabels"])
    labels = mapping(mapping(mapping(spec["template"])["metadata"])["labels"])
    assert selector.items() <= labels.items()
    assert "app.kubernetes.io/version" not in selector, "selectors cannot be changed by an upgrade"


def test_the_role_is_bound_to_the_account_of_the_pods() -> None:
    objects = rendered("base")
    binding = objects["ClusterRoleBinding", "accel-dra-node"]
    account = str(pod_spec(objects)["serviceAccountName"])
    assert ("ServiceAccount", account) in objects
    assert items(binding["subjects"]) == [{"kind": "ServiceAccount", "name": account, "namespace": "accel-dra"}]
    assert mapping(binding["roleRef"])["name"] == "accel-dra-node"
    assert ("ClusterRole", "accel-dra-node") in objects


def test_classes_carry_the_names_of_the_design() -> None:
    names = {name: item for (kind, name), item in rendered("base").items() if kind == "DeviceClass"}
    extended = {name: mapping(item["spec"]).get("extendedResourceName") for name, item in names.items()}
    assert extended == {
        f"gpu.{vocabulary.DOMAIN}": f"{vocabulary.DOMAIN}/gpu",
        f"partition.{vocabulary.DOMAIN}": f"{vocabulary.DOMAIN}/partition",
        f"shared.{vocabulary.DOMAIN}": None,
        f"topology.{vocabulary.DOMAIN}": None,
    }


def test_peer_defect_15_the_default_installation_needs_no_optional_part() -> None:
    """Nothing it refers to is missing: volumes that are made or are always there, no secret, no config map, no CRD."""
    spec = pod_spec(rendered("base"))
    kinds = {key for volume in items(spec["volumes"]) for key in mapping(volume)} - {"name"}
    assert kinds == {"hostPath"}
    assert "runtimeClassName" not in spec
    assert "affinity" not in spec
    assert "initContainers" not in spec
    assert {kind for kind, _ in rendered("base")} <= set(STABLE_APIS)


@pytest.mark.parametrize(
    "chosen", [names for size in range(3) for names in itertools.permutations(COMPONENTS, size)], ids="+".join
)
def test_peer_defect_17_each_component_works_with_and_without_the_others(
    tmp_path: Path, chosen: tuple[str, ...]
) -> None:
    objects = with_components(tmp_path, chosen)
    volumes = [mapping(volume)["name"] for volume in items(pod_spec(objects)["volumes"])]
    mounted = {mapping(mount)["name"] for mount in items(container(objects)["volumeMounts"])}
    assert mounted == set(volumes)
    assert len(set(volumes)) == len(volumes)
    settings.check(configured(objects))
    assert ("gpu.nvidia.com" in [name for _, name in objects]) is ("nvidia-class-alias" in chosen)
    extended = [
        mapping(item["spec"]).get("extendedResourceName")
        for (kind, _), item in objects.items()
        if kind == "DeviceClass"
    ]
    assert ("nvidia.com/gpu" in extended) is ("nvidia-extended-resource" in chosen)
    assert (configured(objects).vendor == "simulated") is ("simulated" in chosen)
    assert ("affinity" in pod_spec(objects)) is ("nvidia-nodes" in chosen)
    assert (configured(objects).allocation_authority == "controller") is ("controller-authority" in chosen)
    assert (("RoleBinding", "accel-dra-node-privileged") in objects) is ("openshift" in chosen)
    assert (("ValidatingWebhookConfiguration", "accel-dra-webhook") in objects) is ("webhook" in chosen)
    assert configured(objects).passthrough is ("passthrough" in chosen)
    assert (("DeviceClass", "vfio.accel-dra.dev") in objects) is ("passthrough" in chosen)


def test_devices_for_virtual_machines_need_the_processes_of_the_host_and_may_only_read_them(tmp_path: Path) -> None:
    objects = with_components(tmp_path, ["passthrough"])
    assert mounts(objects)[configured(objects).proc_root] == "/proc"
    (mount,) = [each for each in map(mapping, items(container(objects)["volumeMounts"])) if each["name"] == "proc"]
    assert mount["readOnly"] is True
    assert configured(objects).sys_root not in mounts(objects), "a privileged container has it, and may write"
    assert mapping(container(objects)["securityContext"])["privileged"] is True


def test_mps_daemons_outlive_the_pod_and_share_memory_with_containers(tmp_path: Path) -> None:
    objects = with_components(tmp_path, ["mps"])
    assert pod_spec(objects)["hostPID"] is True
    assert mapping(container(objects)["securityContext"])["privileged"] is True
    found = [
        mapping(mount) for mount in items(container(objects)["volumeMounts"]) if "mountPropagation" in mapping(mount)
    ]
    assert [(mount["mountPath"], mount["mountPropagation"]) for mount in found] == [
        (configured(objects).records_root, "Bidirectional")
    ]
    cgroup = Path(configured(objects).daemon_cgroup)
    assert mounts(objects)[str(cgroup.parent)] == "/sys/fs/cgroup"
    assert "hostPID" not in pod_spec(rendered("base"))


def test_all_components_together_render(tmp_path: Path) -> None:
    for order in (COMPONENTS, COMPONENTS[::-1]):
        objects = with_components(tmp_path, order)
        assert set(mounts(objects)) >= {"/var/run/cdi"}


def test_images_name_no_registry() -> None:
    """The cluster's own registry is a line in an overlay; nobody else's is built in."""
    for path in [*DEPLOY.rglob("*.yaml"), ROOT / "Dockerfile"]:
        for line in path.read_text().splitlines():
            if line.strip().startswith(("image:", "FROM", "newName:")):
                assert "." not in line.split()[1].split("/")[0].split(":")[0], f"{path}: {line}"
