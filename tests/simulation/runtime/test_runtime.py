"""The runtime applies CDI documents to the letter, and refuses what a real one refuses."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import yaml

from driver.simulation.runtime import cdi
from driver.simulation.runtime.containers import Runtime, Wanted
from driver.simulation.runtime.injection import InjectionError, inject

NULL = {"path": "/dev/gpu0", "hostPath": "/dev/null", "permissions": "rw", "fileMode": 0o666}


def _document(*devices: dict[str, object], **fields: object) -> dict[str, object]:
    return {"cdiVersion": "0.7.0", "kind": "example.com/claim", "devices": list(devices), **fields}


def _device(name: str, **edits: object) -> dict[str, object]:
    return {"name": name, "containerEdits": edits}


def _write(folder: Path, name: str, document: dict[str, object]) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(yaml.safe_dump(document) if name.endswith("yaml") else json.dumps(document))


def test_edits_of_a_document_come_once_and_before_its_devices(tmp_path: Path) -> None:
    document = _document(
        _device("a", env=["DEVICE=a", "A=1"], deviceNodes=[NULL]),
        _device("b", env=["DEVICE=b", "B=x=y"]),
        containerEdits={"env": ["DEVICE=none", "COMMON=1"]},
    )
    _write(tmp_path, "one.json", document)
    contents = inject(cdi.load([tmp_path]), ["example.com/claim=a", "example.com/claim=b"])
    assert contents.env == {"DEVICE": "b", "COMMON": "1", "A": "1", "B": "x=y"}
    (node,) = contents.device_nodes
    assert (node.path, node.type, node.major, node.minor, node.access) == ("/dev/gpu0", "c", 1, 3, "rw")
    assert inject(cdi.load([tmp_path]), []).env == {}


def test_a_device_named_twice_changes_nothing_but_its_hooks(tmp_path: Path) -> None:
    device = _device("a", deviceNodes=[NULL], mounts=[{"hostPath": "/etc", "containerPath": "/x"}], additionalGids=[7])
    _write(tmp_path, "one.json", _document(device))
    registry = cdi.load([tmp_path])
    assert inject(registry, ["example.com/claim=a"] * 2) == inject(registry, ["example.com/claim=a"])


def test_mounts_are_sorted_and_the_later_of_one_path_wins(tmp_path: Path) -> None:
    mounts = [
        {"hostPath": "/etc", "containerPath": "/a/b/c"},
        {"hostPath": "/usr", "containerPath": "/a"},
        {"hostPath": "/var", "containerPath": "/a/b/c", "options": ["ro", "bind"]},
    ]
    _write(tmp_path, "one.yaml", _document(_device("a", mounts=mounts)))
    contents = inject(cdi.load([tmp_path]), ["example.com/claim=a"])
    assert [(mount.container_path, mount.host_path) for mount in contents.mounts] == [
        ("/a", "/usr"),
        ("/a/b/c", "/var"),
    ]


def test_an_unknown_device_cannot_be_resolved(tmp_path: Path) -> None:
    _write(tmp_path, "one.json", _document(_device("a", env=["A=1"])))
    with pytest.raises(InjectionError, match=r"unresolvable CDI devices example.com/claim=b, x/y=z") as raised:
        inject(cdi.load([tmp_path, tmp_path / "missing"]), ["example.com/claim=b", "example.com/claim=a", "x/y=z"])
    assert raised.value.reason == "CreateContainerError"


@pytest.mark.parametrize(
    ("edits", "reason"),
    [
        ({"deviceNodes": [{"path": "/dev/none-of-ours"}]}, "failed to stat CDI host device"),
        ({"deviceNodes": [{"path": "/dev/x", "hostPath": "/etc/hostname"}]}, "not a device node"),
        ({"deviceNodes": [{"path": "/dev/x", "hostPath": "/dev/null", "type": "b"}]}, "host type mismatch"),
        ({"mounts": [{"hostPath": "/none/of/ours", "containerPath": "/x"}]}, "no such file or directory"),
        ({"hooks": [{"hookName": "createContainer", "path": "/none/of/ours"}]}, "cannot be executed"),
    ],
)
def test_what_does_not_exist_on_the_host_stops_the_container(
    tmp_path: Path, edits: dict[str, object], reason: str
) -> None:
    _write(tmp_path, "one.json", _document(_device("a", **edits)))
    with pytest.raises(InjectionError, match=reason):
        inject(cdi.load([tmp_path]), ["example.com/claim=a"])


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"cdiVersion": "9.0.0"}, "is not one of"),
        ({"cdiVersion": "0.4.0"}, "must be at least 0.5.0"),
        ({"cdiVersion": "0.6.0", "containerEdits": {"additionalGids": [5]}}, "must be at least 0.7.0"),
        ({"kind": "example"}, "not vendor/class"),
        ({"kind": "1example/gpu"}, "not vendor/class"),
        ({"devices": []}, "length >= 1"),
        ({"devices": [_device("a")]}, "empty containerEdits"),
        ({"devices": [_device("a/b", env=["A=1"])]}, "invalid device name"),
        ({"devices": [_device("a", env=["A=1"]), _device("a", env=["A=2"])]}, "more than once"),
        ({"containerEdits": {"env": ["NOVALUE"]}}, "regex"),
        ({"containerEdits": {"deviceNodes": [{"path": ""}]}}, "length >= 1"),
        ({"containerEdits": {"hooks": [{"hookName": "later", "path": "/x"}]}}, "Invalid enum value 'later'"),
        ({"containerEdits": {"devices": []}}, "unknown field"),
    ],
)
def test_an_invalid_document_is_set_aside_alone(tmp_path: Path, change: dict[str, object], reason: str) -> None:
    good = _document(_device("good", env=["A=1"]), kind="example.com/good")
    _write(tmp_path, "good.json", good)
    _write(tmp_path, "bad.json", {**_document(_device("a", deviceNodes=[NULL])), **change})
    registry = cdi.load([tmp_path])
    assert list(registry.devices) == ["example.com/good=good"]
    assert reason in registry.invalid[tmp_path / "bad.json"]


def test_half_a_file_is_set_aside(tmp_path: Path) -> None:
    (tmp_path / "half.json").write_text('{"cdiVersion": "0.7.0", "kind"')
    (tmp_path / "half.yaml").write_text("a: [")
    (tmp_path / "note.txt").write_text("not read")
    assert len(cdi.load([tmp_path]).invalid) == 2


def test_two_files_of_one_folder_that_define_a_device_make_it_unresolvable(tmp_path: Path) -> None:
    document = _document(_device("a", env=["A=1"]))
    _write(tmp_path / "static", "one.json", document)
    _write(tmp_path / "static", "two.json", document)
    registry = cdi.load([tmp_path / "static"])
    assert (registry.devices, registry.ambiguous) == ({}, {"example.com/claim=a"})
    _write(tmp_path / "dynamic", "one.json", _document(_device("a", env=["A=2"])))
    registry = cdi.load([tmp_path / "static", tmp_path / "dynamic"])
    assert inject(registry, ["example.com/claim=a"]).env == {"A": "2"}


@pytest.mark.parametrize(
    ("node", "uid", "usable"),
    [
        ({"fileMode": 0o666}, 1000, True),
        ({"fileMode": 0o660}, 1000, True),  # the runtime gives the node to the container's user
        ({"fileMode": 0o660, "uid": 0}, 1000, False),
        ({"fileMode": 0o600, "uid": 0}, 0, True),
        ({"fileMode": 0o666, "permissions": "r"}, 1000, False),
        ({}, 1000, False),
    ],
)
def test_who_may_open_a_device_node(tmp_path: Path, node: dict[str, object], uid: int, usable: bool) -> None:
    edit = {"path": "/dev/x", "hostPath": "/dev/null", **node}
    _write(tmp_path, "one.json", _document(_device("a", deviceNodes=[edit])))
    (made,) = inject(cdi.load([tmp_path]), ["example.com/claim=a"], user=uid).device_nodes
    assert made.is_usable_by(uid, ()) is usable


def test_numbers_of_a_node_are_read_from_the_host(tmp_path: Path) -> None:
    _write(tmp_path, "one.json", _document(_device("a", deviceNodes=[{"path": "/dev/null", "permissions": "m"}])))
    (node,) = inject(cdi.load([tmp_path]), ["example.com/claim=a"]).device_nodes
    status = Path("/dev/null").stat()
    assert (node.major, node.minor) == (os.major(status.st_rdev), os.minor(status.st_rdev))


def test_a_runtime_starts_all_containers_of_a_pod_or_none(tmp_path: Path) -> None:
    _write(tmp_path, "one.json", _document(_device("a", env=["A=1"])))
    runtime = Runtime([tmp_path])
    sandbox = runtime.create("uid")
    with pytest.raises(InjectionError):
        runtime.start("uid", {"one": Wanted(("example.com/claim=a",)), "two": Wanted(("example.com/claim=b",))})
    assert sandbox.containers == {}
    runtime.start("uid", {"one": Wanted(("example.com/claim=a",)), "two": Wanted()})
    assert [container.contents.env for container in sandbox.containers.values()] == [{"A": "1"}, {}]
    (tmp_path / "one.json").unlink()
    assert runtime.create("uid") is sandbox
    runtime.finish("uid", 0)
    assert sandbox.exit_code == 0
    assert runtime.list_sandboxes() == ["uid"]
    runtime.remove("uid")
    runtime.remove("uid")
    assert runtime.find("uid") is None
