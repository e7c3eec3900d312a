"""`accel-dra explain` against the embedded API server, as a person with read rights only runs it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from click.testing import CliRunner, Result

from driver.cli import clusters
from driver.cli.explain import EXIT_WAITING, command
from driver.core.fencing import Authority
from driver.kube.access import Access
from driver.kube.client import Client
from driver.model.errors import Forbidden, InvalidInput, NotFound
from driver.simulation.apiserver import ApiServer
from driver.simulation.apiserver.requests import User
from driver.simulation.apiserver.values import JsonObject
from tests.fakes import kustomize
from tests.fakes.published_machines import DRIVER, add_classes, add_machine

ROOT: Final = Path(__file__).parents[2]
EXAMPLES: Final = ROOT / "deploy" / "examples"
READER: Final = "reader-token"
ROLE: Final = next(iter(yaml.safe_load_all((ROOT / "deploy/components/explain-role/clusterrole.yaml").read_text())))
BINDING: Final[JsonObject] = {
    "apiVersion": "rbac.authorization.k8s.io/v1",
    "kind": "ClusterRoleBinding",
    "metadata": {"name": "readers"},
    "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "accel-dra-explain"},
    "subjects": [{"kind": "User", "name": "reader", "apiGroup": "rbac.authorization.k8s.io"}],
}


class Site:
    """A server with machines, and the command as the reader runs it."""

    def __init__(self, server: ApiServer, folder: Path) -> None:
        self.server = server
        self.folder = folder
        self.config = server.kubeconfig(folder / "config", user="reader", token=READER, namespace="team")

    def run(self, *arguments: str, text: str | None = None, config: bool = True) -> Result:
        options = ["--kubeconfig", str(self.config)] if config else []
        return CliRunner().invoke(
            command, [*arguments, *options], input=text, catch_exceptions=False, standalone_mode=False
        )

    def explain(self, *arguments: str, text: str | None = None) -> dict[str, Any]:
        result = self.run(*arguments, "-o", "json", text=text)
        document: dict[str, Any] = json.loads(result.stdout)
        waits = any(claim["state"] == "Waiting" or claim["refusals"] for claim in document["claims"])
        assert result.return_value == (EXIT_WAITING if waits else 0)
        return document

    def claim(self, name: str, count: int = 1, *, class_name: str = DRIVER, **fields: Any) -> str:
        request: JsonObject = {"name": "gpus", "exactly": {"deviceClassName": class_name, "count": count}}
        value: dict[str, Any] = {
            "apiVersion": "resource.k8s.io/v1",
            "kind": "ResourceClaim",
            "metadata": {"name": name, "namespace": "team", **fields.pop("metadata", {})},
            "spec": {"devices": {"requests": [request], **fields}},
        }
        return yaml.safe_dump(value)

    def pod(self, name: str, *claims: str, **spec: Any) -> str:
        value: JsonObject = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "namespace": "team"},
            "spec": {
                "containers": [{"name": "main", "image": "x"}],
                "resourceClaims": [{"name": each, "resourceClaimName": each} for each in claims],
                **spec,
            },
        }
        return yaml.safe_dump(value)

    def create(self, *texts: str) -> None:
        for text in texts:
            self.server.store.create(yaml.safe_load(text))

    def allocate(self, name: str, node: str, device: str) -> None:
        (stored,) = [
            each
            for each in self.server.store.list("resourceclaims")
            if kustomize.mapping(each["metadata"])["name"] == name
        ]
        result: JsonObject = {"request": "gpus", "driver": DRIVER, "pool": node, "device": device}
        status: JsonObject = {"allocation": {"devices": {"results": [result]}}}
        self.server.store.update_status({**stored, "status": status})


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    readers = {READER: User("reader")}
    with ApiServer(authorize=True, tokens=readers, namespaces=("default", "team")) as server:
        server.store.create(ROLE)
        server.store.create(BINDING)
        add_classes(server)
        add_machine(server, "l40s", "l40s")
        add_machine(server, "hgx", "hgx-h100", Authority.CONTROLLER)
        yield Site(server, tmp_path)


def join(*texts: str) -> str:
    return "\n---\n".join(texts)


def test_a_file_is_answered_before_anything_is_created(site: Site) -> None:
    result = site.run("-f", "-", text=join(site.claim("c", 2), site.pod("p", "c")))
    assert result.return_value == 0
    assert result.stdout.startswith("✓ claim team/c of pod p: would be allocated\n")
    assert (
        "would get gpus: gpu-0000-2a-00-0 and gpu-0000-2b-00-0 of l40s on node l40s from kube-scheduler"
        in result.stdout
    )
    assert result.stdout.endswith("    in common: numaNode 0, pcieRoot pci0000:26\n")
    assert site.server.store.list("resourceclaims") == []


def test_a_claim_that_asks_for_the_controller_gets_devices_of_its_pools(site: Site) -> None:
    (answer,) = site.explain("-f", "-", text=site.claim("c", 2, class_name="topology.accel-dra.dev"))["claims"]
    assert (answer["state"], answer["allocator"], answer["node"]) == ("WouldBeAllocated", "controller", "hgx")
    assert {each["pool"] for each in answer["devices"]} == {"hgx"}
    assert answer["pod"] == "any pod that uses c"


def test_what_cannot_be_had_waits_with_a_reason_and_exit_code_3(site: Site) -> None:
    result = site.run("-f", "-", text=site.claim("c", 9))
    assert result.return_value == EXIT_WAITING
    assert result.stdout.startswith("✗ claim team/c for any pod that uses c: waits (NoSuitableDevices)\n")


def test_configuration_that_the_node_will_refuse_is_told_with_the_devices(site: Site) -> None:
    parameters = {"apiVersion": "config.accel-dra.dev/v1alpha1", "kind": "GpuConfig", "sharing": {"strategy": "Mps"}}
    text = site.claim("c", config=[{"opaque": {"driver": DRIVER, "parameters": parameters}}])
    refusal = "'Mps' is not allowed; allowed: Exclusive, TimeSlicing, MPS (MPS was probably meant)"
    result = site.run("-f", "-", text=text)
    assert result.return_value == EXIT_WAITING
    assert result.stdout.startswith("✗ claim team/c for any pod that uses c: would be allocated\n")
    assert f"    no pod starts with it: configuration for {DRIVER} of the claim: parameters" in result.stdout
    assert f"{refusal}\n" in result.stdout
    (answer,) = site.explain("-f", "-", text=text)["claims"]
    assert [each.endswith(refusal) for each in answer["refusals"]] == [True]


def test_claims_of_one_file_do_not_get_the_same_device_twice(site: Site) -> None:
    wanted = [site.claim(f"c{index}", 4, class_name="topology.accel-dra.dev") for index in range(3)]
    found = site.explain("-f", "-", text=join(*wanted))["claims"]
    taken = [each["device"] for answer in found for each in answer["devices"] if answer["allocator"] == "controller"]
    assert len(taken) == len(set(taken)) == 8


def test_a_claim_that_is_there_says_what_it_has_and_who_uses_it(site: Site) -> None:
    site.create(site.claim("c"))
    (answer,) = site.explain("claim", "c")["claims"]
    assert (answer["state"], answer["reason"]) == ("Waiting", "WaitingForConsumer")
    site.create(site.pod("p", "c"))
    (answer,) = site.explain("pod", "p")["claims"]
    assert (answer["state"], answer["pod"], answer["node"]) == ("WouldBeAllocated", "p", "l40s")
    site.allocate("c", "l40s", "gpu-0000-2a-00-0")
    (answer,) = site.explain("pod", "p", "-n", "team")["claims"]
    assert answer["state"] == "Allocated"
    assert answer["message"].startswith("has gpus: gpu-0000-2a-00-0 of l40s")
    (other,) = site.explain("-f", "-", text=site.claim("other"))["claims"]
    assert [each["device"] for each in other["devices"]] == ["gpu-0000-2b-00-0"], "what is held is not offered"


def test_the_pod_decides_which_nodes_count(site: Site) -> None:
    text = join(site.claim("c"), site.pod("p", "c", nodeName="", nodeSelector={"disk": "ssd"}))
    (answer,) = site.explain("-f", "-", text=text)["claims"]
    assert answer["state"] == "Waiting"
    assert "2 nodes: the pod's node selector does not match" in answer["message"]


def test_templates_of_the_cluster_serve_pods_of_a_file(site: Site) -> None:
    template, pod = yaml.safe_load_all((EXAMPLES / "single-gpu/workload.yaml").read_text())
    (answer,) = site.explain("-f", "-", text=join(yaml.safe_dump(template), yaml.safe_dump(pod)))["claims"]
    assert answer["state"] == "WouldBeAllocated"
    template["metadata"]["namespace"] = "team"
    site.create(yaml.safe_dump(template))
    (again,) = site.explain("-f", "-", text=yaml.safe_dump(pod))["claims"]
    assert again == answer


def test_a_class_of_the_file_counts(site: Site) -> None:
    add_machine(site.server, "hgx", "hgx-h100-nics", Authority.CONTROLLER, "nic.accel-dra.dev")
    documents = yaml.safe_dump(
        {
            "apiVersion": "resource.k8s.io/v1",
            "kind": "DeviceClass",
            "metadata": {"name": "nic"},
            "spec": {"selectors": [{"cel": {"expression": 'device.driver == "nic.accel-dra.dev"'}}]},
        }
    )
    policy = {"apiVersion": "config.accel-dra.dev/v1alpha1", "kind": "AllocationPolicy"}
    config = [{"opaque": {"driver": DRIVER, "parameters": policy}}]
    (answer,) = site.explain("-f", "-", text=join(documents, site.claim("c", class_name="nic", config=config)))[
        "claims"
    ]
    assert [each["device"][:3] for each in answer["devices"]] == ["nic"]


def test_a_bad_policy_is_named_by_its_path(site: Site) -> None:
    policy = {"apiVersion": "config.accel-dra.dev/v1alpha1", "kind": "AllocationPolicy", "numa": "Always"}
    config = [{"opaque": {"driver": DRIVER, "parameters": policy}}]
    (answer,) = site.explain("-f", "-", text=site.claim("c", config=config))["claims"]
    assert answer["reason"] == "InvalidAllocationPolicy"
    assert "spec.devices.config[0].opaque.parameters.numa: 'Always' is not allowed" in answer["message"]


def test_a_group_of_a_file_is_placed_together_or_waits(site: Site) -> None:
    policy = {
        "apiVersion": "config.accel-dra.dev/v1alpha1",
        "kind": "AllocationPolicy",
        "group": {"size": 2},
    }
    config = [{"opaque": {"driver": DRIVER, "parameters": policy}}]
    label = {"labels": {"accel-dra.dev/group": "g"}}
    texts = [
        join(site.claim(name, 4, config=config, metadata=label), site.pod(f"p-{name}", name)) for name in ("a", "b")
    ]
    (alone,) = site.explain("-f", "-", text=texts[0])["claims"]
    assert alone["reason"] == "WaitingForGroup"
    both = site.explain("-f", "-", text=join(*texts))["claims"]
    assert [answer["state"] for answer in both] == ["WouldBeAllocated"] * 2


def test_a_pod_of_a_file_may_use_a_claim_of_the_cluster(site: Site) -> None:
    with pytest.raises(NotFound, match="pod p waits for claim c, which does not exist"):
        site.run("-f", "-", text=site.pod("p", "c"))
    site.create(site.claim("c", 2))
    (answer,) = site.explain("-f", "-", text=site.pod("p", "c"))["claims"]
    assert (answer["name"], answer["pod"], answer["state"]) == ("c", "p", "WouldBeAllocated")


def test_a_claim_that_asks_for_nothing_gets_nothing(site: Site) -> None:
    document = yaml.safe_load(site.claim("c"))
    document["spec"] = {}
    assert "would get nothing on node" in site.run("-f", "-", text=yaml.safe_dump(document)).stdout


def test_a_folder_is_read_as_kubectl_reads_it(site: Site) -> None:
    folder = site.folder / "workload"
    folder.mkdir()
    (folder / "a.yaml").write_text(site.claim("c"))
    (folder / "b.json").write_text(json.dumps(yaml.safe_load(site.pod("p", "c"))))
    (folder / "README.md").write_text("# no: [yaml")
    (answer,) = site.explain("-f", str(folder))["claims"]
    assert (answer["name"], answer["pod"]) == ("c", "p")


def test_what_has_two_requests_is_told_line_by_line(site: Site) -> None:
    document = yaml.safe_load(site.claim("c"))
    requests = document["spec"]["devices"]["requests"]
    requests.append({**requests[0], "name": "more"})
    lines = site.run("-f", "-", text=yaml.safe_dump(document)).stdout.splitlines()
    assert lines[1:3] == [
        "    would get gpus: gpu-0000-2a-00-0 of l40s",
        "    more: gpu-0000-2b-00-0 of l40s on node l40s from kube-scheduler (first fit, it may prefer another node)",
    ]


def test_documents_without_devices_are_named(site: Site) -> None:
    service = "apiVersion: v1\nkind: Service\nmetadata: {name: web}\n"
    result = site.run("-f", "-", text=join(service, site.pod("plain")))
    assert result.return_value == 0
    assert (
        result.stdout == "Nothing here asks for devices.\nLeft out, neither claim nor template nor pod: Service web.\n"
    )


@pytest.mark.parametrize(
    ("arguments", "allowed"),
    [
        ((), "claim NAME, pod NAME, or -f FILE"),
        (("claim",), "claim NAME, pod NAME, or -f FILE"),
        (("claim", "c", "-f", "x"), "claim NAME, pod NAME, or -f FILE"),
        (("-f", "/nowhere.yaml"), "a readable file of YAML documents"),
    ],
)
def test_wrong_arguments_are_one_sentence(site: Site, arguments: tuple[str, ...], allowed: str) -> None:
    with pytest.raises(InvalidInput, match=re.escape(allowed)):
        site.run(*arguments)


@pytest.mark.parametrize("text", ["", "---", "a: [", "kind: Pod\napiVersion: v1\nspec: 4"])
def test_a_file_that_is_no_workload_is_one_sentence(site: Site, text: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        site.run("-f", "-", text=text)
    assert "\n" not in str(caught.value)


def test_what_does_not_exist_is_said(site: Site) -> None:
    with pytest.raises(NotFound, match="no ResourceClaim c in namespace team"):
        site.run("claim", "c")
    with pytest.raises(NotFound, match="no pod p with claims in namespace other"):
        site.run("pod", "p", "-n", "other")
    site.create(site.claim("c"), site.pod("p", "gone"))
    with pytest.raises(NotFound, match="no ResourceClaim c in namespace other; there is one in team, see -n"):
        site.run("claim", "c", "-n", "other")
    with pytest.raises(NotFound, match="waits for claim gone"):
        site.run("pod", "p")


def test_each_right_that_is_missing_is_named(site: Site) -> None:
    (role,) = site.server.store.list("clusterroles")
    site.server.store.update({**role, "rules": []})
    with pytest.raises(Forbidden, match="needs to list pods of the whole cluster"):
        site.run("claim", "c")


def test_the_kubeconfig_is_found_where_kubectl_finds_it(site: Site) -> None:
    usual = site.folder / "home" / ".kube" / "config"
    usual.parent.mkdir(parents=True)
    usual.write_bytes(site.config.read_bytes())
    assert clusters.find_access("", {"HOME": str(site.folder / "home")}).namespace == "team"
    named = {"KUBECONFIG": f"{site.config}:/elsewhere", "HOME": "/nowhere"}
    assert clusters.find_access("", named).namespace == "team"
    with pytest.raises(InvalidInput, match=r"\$KUBECONFIG"):
        clusters.find_access("", {"HOME": "/nowhere"})


def test_nothing_is_written(site: Site) -> None:
    client = Client(Access(server=site.server.url, token=READER))
    with pytest.raises(Forbidden):
        client.create("/api/v1/namespaces/team/pods", site.pod("p").encode())
    client.close()


def test_exit_codes_of_the_whole_command(site: Site) -> None:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "driver", "explain", *arguments, "--kubeconfig", str(site.config)],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    (site.folder / "few.yaml").write_text(site.claim("c"))
    (site.folder / "many.yaml").write_text(site.claim("c", 30))
    assert run("-f", str(site.folder / "few.yaml")).returncode == 0
    assert run("-f", str(site.folder / "many.yaml")).returncode == 3
    assert run("claim").returncode == 2
    done = run("claim", "none")
    assert (done.returncode, done.stderr) == (1, "accel-dra: there is no ResourceClaim none in namespace team\n")
