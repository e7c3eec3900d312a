"""Device metadata (KEP-5304): where it lies, what it says, how it comes into the container."""

from __future__ import annotations

import json

import pytest

from driver.core import metadata, preparing, recording
from driver.core.metadata import RequestMetadata
from driver.core.preparing import Grant, Place
from driver.model.claims import AllocationResult
from driver.model.prepared import ContainerEdits, Preparation
from tests.fakes import cdi as judge
from tests.fakes.bench import BOOT, DRIVER, NODE, claim, device, node_inventory, ref, result

FOLDER = "/var/lib/kubelet/plugins/gpu.accel-dra.dev"
PLACE = Place(DRIVER, NODE, node_inventory())


def describe(*results: AllocationResult) -> tuple[tuple[Grant, ...], tuple[RequestMetadata, ...]]:
    made = claim("u1", *results)
    grants = preparing.plan(ref("u1"), made, (), PLACE)
    return grants, metadata.describe(made, grants, PLACE, FOLDER)


def test_a_document_tells_what_the_request_got() -> None:
    _, (entry,) = describe(result(device(1)), result(device(2)))
    assert entry.document.endswith(b"\n")
    document = json.loads(entry.document)
    devices = document["requests"][0].pop("devices")
    assert document == {
        "apiVersion": "metadata.resource.k8s.io/v1alpha1",
        "kind": "DeviceMetadata",
        "metadata": {"name": "claim-u1", "namespace": "default", "uid": "u1", "generation": 1},
        "requests": [{"name": "gpu"}],
    }
    assert [(entry["driver"], entry["pool"], entry["name"]) for entry in devices] == [
        (DRIVER, NODE, device(1)),
        (DRIVER, NODE, device(2)),
    ]
    assert devices[0]["attributes"]["accel-dra.dev/uuid"] == {"string": "GPU-00000001"}
    assert devices[0]["attributes"]["resource.kubernetes.io/numaNode"] == {"int": 0}


def test_each_request_has_its_own() -> None:
    _, entries = describe(result(device(1), "a"), result(device(2), "b"))
    assert [entry.request for entry in entries] == ["a", "b"]
    assert [json.loads(entry.document)["requests"][0]["devices"][0]["name"] for entry in entries] == [
        device(1),
        device(2),
    ]


def test_a_subrequest_is_told_but_paths_name_the_main_request() -> None:
    _, (entry,) = describe(result(device(1), "gpu/a100"))
    assert entry.request == "gpu"
    assert json.loads(entry.document)["requests"][0]["name"] == "gpu/a100"


def test_the_mount_of_a_named_claim() -> None:
    _, (entry,) = describe(result(device(1)))
    assert entry.spec.name == f"{DRIVER}_metadata_u1_gpu.json"
    assert entry.cdi_id == f"{DRIVER}/metadata=u1_gpu"
    assert judge.check(entry.spec.text) == {
        "cdiVersion": "0.3.0",
        "kind": f"{DRIVER}/metadata",
        "devices": [
            {
                "name": "u1_gpu",
                "containerEdits": {
                    "mounts": [
                        {
                            "hostPath": f"{FOLDER}/dra-device-metadata/default_claim-u1/gpu/metadata.json",
                            "containerPath": "/var/run/kubernetes.io/dra-device-attributes/resourceclaims/claim-u1/gpu/"
                            f"{DRIVER}-metadata.json",
                            "options": ["ro", "bind"],
                        }
                    ]
                },
            }
        ],
    }


def test_the_mount_of_a_claim_made_from_a_template_has_the_name_the_pod_knows() -> None:
    made = claim("u1", result(device(1)), annotations={"resource.kubernetes.io/pod-claim-name": "my-gpu"})
    grants = preparing.plan(ref("u1"), made, (), PLACE)
    (entry,) = metadata.describe(made, grants, PLACE, FOLDER)
    assert b"/resourceclaimtemplates/my-gpu/gpu/" in entry.spec.text
    assert json.loads(entry.document)["podClaimName"] == "my-gpu"


@pytest.mark.parametrize("name", ["../../../etc", "a/b", "", "x\0", "UPPER", "a\n", "-a", "a" * 64, "a.b"])
def test_an_annotation_that_is_no_name_never_becomes_part_of_a_path(name: str) -> None:
    made = claim("u1", result(device(1)), annotations={"resource.kubernetes.io/pod-claim-name": name})
    (entry,) = metadata.describe(made, preparing.plan(ref("u1"), made, (), PLACE), PLACE, FOLDER)
    assert b"/resourceclaims/claim-u1/gpu/" in entry.spec.text
    assert "podClaimName" not in json.loads(entry.document)


def test_the_id_comes_with_the_first_device_of_each_request() -> None:
    grants, entries = describe(result(device(1), "a"), result(device(2), "a"), result(device(3), "b"))
    record = recording.draft(ref("u1"), PLACE, grants, Preparation(ContainerEdits(env=("A=1",)), {}), entries, BOOT)
    assert [len(prepared.cdi_device_ids) for prepared in record.devices] == [2, 1, 2]
    assert record.devices[0].cdi_device_ids[1] == f"{DRIVER}/metadata=u1_a"
    assert record.devices[2].cdi_device_ids[1] == f"{DRIVER}/metadata=u1_b"
    assert sorted(record.metadata) == ["a", "b"]
    assert set(record.cdi) == {
        f"k8s.{DRIVER}-claim_u1.json",
        f"{DRIVER}_metadata_u1_a.json",
        f"{DRIVER}_metadata_u1_b.json",
    }
