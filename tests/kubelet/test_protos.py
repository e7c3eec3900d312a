"""The generated messages are those of protos/, and those are the wire contract of the kubelet."""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet

from driver.kubelet import methods
from driver.kubelet.pb.dra.v1 import api_pb2 as v1
from driver.kubelet.pb.dra.v1beta1 import api_pb2 as v1beta1
from driver.kubelet.pb.dra_health.v1 import api_pb2 as health_v1
from driver.kubelet.pb.dra_health.v1alpha1 import api_pb2 as health_v1alpha1
from driver.kubelet.pb.pluginregistration.v1 import api_pb2 as registration

ROOT = Path(__file__).resolve().parent.parent.parent
VIRTUAL = "driver/kubelet/pb"
MODULES = {
    f"{VIRTUAL}/dra/v1/api.proto": v1.DESCRIPTOR,
    f"{VIRTUAL}/dra/v1beta1/api.proto": v1beta1.DESCRIPTOR,
    f"{VIRTUAL}/dra_health/v1/api.proto": health_v1.DESCRIPTOR,
    f"{VIRTUAL}/dra_health/v1alpha1/api.proto": health_v1alpha1.DESCRIPTOR,
    f"{VIRTUAL}/pluginregistration/v1/api.proto": registration.DESCRIPTOR,
}


def protoc(*arguments: str) -> None:
    command = [sys.executable, "-m", "grpc_tools.protoc", f"--proto_path={VIRTUAL}=protos", *arguments, *MODULES]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)


def test_generated_messages_are_those_of_the_protos(tmp_path: Path) -> None:
    protoc(f"--descriptor_set_out={tmp_path}/all")
    compiled = FileDescriptorSet.FromString((tmp_path / "all").read_bytes())
    assert {file.name for file in compiled.file} == set(MODULES)
    for file in compiled.file:
        assert canonical(file) == canonical(serialized(MODULES[file.name])), f"run hack/protos: {file.name} has changed"


def serialized(descriptor: FileDescriptor) -> FileDescriptorProto:
    proto = FileDescriptorProto()
    descriptor.CopyToProto(proto)
    return proto


def canonical(file: FileDescriptorProto) -> str:
    return re.sub(r'\s*json_name: ".*"', "", str(file))


def test_generating_again_changes_nothing(tmp_path: Path) -> None:
    pinned = re.search(r"^grpcio-tools==(.*)$", (ROOT / "hack/constraints.txt").read_text(), re.MULTILINE)
    assert pinned
    if importlib.metadata.version("grpcio-tools") != pinned[1]:
        pytest.skip(f"the committed files were generated with grpcio-tools {pinned[1]}")
    protoc(f"--python_out={tmp_path}")
    for name in MODULES:
        generated = Path(name).with_name("api_pb2.py")
        assert (tmp_path / generated).read_bytes() == (ROOT / generated).read_bytes(), "run hack/protos"


def test_every_message_has_types() -> None:
    for name, descriptor in MODULES.items():
        stub = (ROOT / name).with_name("api_pb2.pyi").read_text()
        for message in descriptor.message_types_by_name:
            assert f"class {message}(" in stub


def test_protobuf_is_new_enough_for_what_was_generated() -> None:
    text = (ROOT / VIRTUAL / "dra/v1/api_pb2.py").read_text()
    generator = re.search(r"Protobuf Python Version: (\S+)", text)
    declared = re.search(r'"protobuf>=([\d.]+),<(\d+)"', (ROOT / "pyproject.toml").read_text())
    assert generator
    assert declared
    assert order(declared[1]) >= order(generator[1]), "an older runtime refuses the generated files"
    assert order(generator[1])[0] < int(declared[2])


def order(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


@pytest.mark.parametrize(
    ("method", "path"),
    [
        (methods.GET_INFO, "/pluginregistration.Registration/GetInfo"),
        (methods.NOTIFY_STATUS, "/pluginregistration.Registration/NotifyRegistrationStatus"),
        (methods.PREPARE_V1, "/k8s.io.kubelet.pkg.apis.dra.v1.DRAPlugin/NodePrepareResources"),
        (methods.UNPREPARE_V1, "/k8s.io.kubelet.pkg.apis.dra.v1.DRAPlugin/NodeUnprepareResources"),
        (methods.PREPARE_V1BETA1, "/k8s.io.kubelet.pkg.apis.dra.v1beta1.DRAPlugin/NodePrepareResources"),
        (methods.UNPREPARE_V1BETA1, "/k8s.io.kubelet.pkg.apis.dra.v1beta1.DRAPlugin/NodeUnprepareResources"),
        (methods.WATCH_HEALTH_V1, "/v1.DRAResourceHealth/NodeWatchResources"),
        (methods.WATCH_HEALTH_V1ALPHA1, "/v1alpha1.DRAResourceHealth/NodeWatchResources"),
    ],
)
def test_methods_have_the_kubelets_paths_and_the_protos_types(
    method: methods.Method[Any, Any] | methods.Stream[Any, Any], path: str
) -> None:
    assert f"/{method.service}/{method.name}" == path
    services = {service.full_name: service for file in MODULES.values() for service in file.services_by_name.values()}
    described = services[method.service].methods_by_name[method.name]
    assert described.input_type == method.request.DESCRIPTOR
    assert described.output_type == method.reply.DESCRIPTOR
    assert described.server_streaming == isinstance(method, methods.Stream)


@pytest.mark.parametrize(
    ("message", "fields"),
    [
        (v1.Claim, {"namespace": 1, "uid": 2, "name": 3}),
        (
            v1.Device,
            {"request_names": 1, "pool_name": 2, "device_name": 3, "cdi_device_ids": 4, "share_id": 5},
        ),
        (v1beta1.Device, {"request_names": 1, "pool_name": 2, "device_name": 3, "cdi_device_ids": 4}),
        (v1.NodePrepareResourceResponse, {"devices": 1, "error": 2}),
        (health_v1.NodeWatchResourcesResponse, {"devices": 1}),
        (health_v1.DeviceIdentifier, {"pool_name": 1, "device_name": 2}),
        (
            health_v1.DeviceHealth,
            {"device": 1, "health": 2, "last_updated_time": 3, "health_check_timeout_seconds": 4, "message": 5},
        ),
        (registration.PluginInfo, {"type": 1, "name": 2, "endpoint": 3, "supported_versions": 4}),
        (registration.RegistrationStatus, {"plugin_registered": 1, "error": 2}),
    ],
)
def test_field_numbers_are_those_of_the_wire(message: type[v1.Claim], fields: dict[str, int]) -> None:
    assert {field.name: field.number for field in message.DESCRIPTOR.fields} == fields


def test_both_versions_of_the_health_stream_are_the_same_on_the_wire() -> None:
    def text(descriptor: FileDescriptor) -> str:
        return re.sub(r"v1(alpha1)?\b", "", canonical(serialized(descriptor)))

    assert text(health_v1.DESCRIPTOR) == text(health_v1alpha1.DESCRIPTOR)
    assert dict(health_v1.HealthStatus.items()) == {"UNKNOWN": 0, "HEALTHY": 1, "UNHEALTHY": 2}


def test_golden_bytes_of_an_answer() -> None:
    """Written out by hand from the protobuf encoding, so that a wrong field number or type cannot hide."""
    response = v1.NodePrepareResourcesResponse()
    response.claims["u"].devices.add(
        request_names=["r"], pool_name="p", device_name="d", cdi_device_ids=["c"], share_id="s"
    )
    device = b"\x0a\x01r\x12\x01p\x1a\x01d\x22\x01c\x2a\x01s"
    entry = b"\x0a" + bytes([len(device)]) + device
    pair = b"\x0a\x01u\x12" + bytes([len(entry)]) + entry
    assert response.SerializeToString(deterministic=True) == b"\x0a" + bytes([len(pair)]) + pair
