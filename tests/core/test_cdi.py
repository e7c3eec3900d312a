"""CDI documents: valid for any edits a vendor can return, of the lowest version, the same bytes for the same input."""

from __future__ import annotations

import json

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from driver.core import cdi
from driver.model.prepared import ContainerEdits, DeviceNode, Hook, Mount, Preparation
from tests.fakes import cdi as judge

DRIVER = "gpu.accel-dra.dev"
UID = "b0e6c0f2-7d5c-4f0e-9e3b-6f1f5d0c7a11"
NODE = ContainerEdits(device_nodes=(DeviceNode(path="/dev/nvidia0", type="c", major=195, minor=0),))
COMMON = ContainerEdits(env=("A=1",))
EMPTY = ContainerEdits()


def describe(
    common: ContainerEdits, *devices: tuple[str, ContainerEdits], shares: tuple[str | None, ...] = (), uid: str = UID
) -> cdi.ClaimSpec:
    names = [(name, share) for (name, _), share in zip(devices, shares or (None,) * len(devices), strict=True)]
    return cdi.describe_claim(DRIVER, uid, names, Preparation(common, dict(devices)))


def read(spec: cdi.ClaimSpec) -> dict[str, object]:
    assert spec.file is not None
    return judge.check(spec.file.text)


def test_one_transient_spec_a_claim_named_as_cdi_names_them() -> None:
    spec = describe(COMMON, ("gpu-0", NODE))
    assert spec.file is not None
    assert spec.file.name == f"k8s.gpu.accel-dra.dev-claim_{UID}.json"
    assert spec.ids == ((f"k8s.gpu.accel-dra.dev/claim={UID}-gpu-0",),)
    assert read(spec) == {
        "cdiVersion": "0.3.0",
        "kind": "k8s.gpu.accel-dra.dev/claim",
        "containerEdits": {"env": ["A=1"]},
        "devices": [
            {
                "name": f"{UID}-gpu-0",
                "containerEdits": {"deviceNodes": [{"path": "/dev/nvidia0", "type": "c", "major": 195, "minor": 0}]},
            }
        ],
    }


def test_devices_keep_their_order_and_common_edits_stand_once() -> None:
    spec = describe(COMMON, ("gpu-1", NODE), ("gpu-0", NODE))
    document = read(spec)
    assert [entry["name"] for entry in document["devices"]] == [f"{UID}-gpu-1", f"{UID}-gpu-0"]  # type: ignore[attr-defined]
    assert json.dumps(document).count("A=1") == 1


def test_peer_defect_09_shares_of_one_device_are_devices_of_their_own() -> None:
    spec = describe(COMMON, ("gpu-0", NODE), ("gpu-0", NODE), shares=("s1", "s2"))
    assert spec.ids == (
        (f"k8s.{DRIVER}/claim={UID}-gpu-0-s1",),
        (f"k8s.{DRIVER}/claim={UID}-gpu-0-s2",),
    )
    read(spec)


def test_a_device_without_edits_of_its_own_carries_its_name_because_cdi_refuses_empty_edits() -> None:
    document = read(describe(COMMON, ("gpu-0", EMPTY)))
    assert "ACCEL_DRA_DEVICE=gpu-0" in json.dumps(document)


def test_a_device_for_which_the_vendor_says_nothing_is_treated_the_same() -> None:
    spec = cdi.describe_claim(DRIVER, UID, [("gpu-0", None)], Preparation(COMMON, {}))
    assert "ACCEL_DRA_DEVICE=gpu-0" in json.dumps(read(spec))


def test_no_common_edits_are_left_out() -> None:
    assert "containerEdits" not in read(describe(EMPTY, ("gpu-0", NODE)))


def test_nothing_to_inject_is_no_spec_and_no_id() -> None:
    spec = describe(EMPTY, ("gpu-0", EMPTY))
    assert spec.file is None
    assert spec.ids == ((),)


def test_only_devices_with_something_to_inject_are_listed() -> None:
    spec = describe(EMPTY, ("gpu-0", EMPTY), ("gpu-1", NODE))
    assert spec.ids == ((), (f"k8s.{DRIVER}/claim={UID}-gpu-1",))
    assert len(read(spec)["devices"]) == 1  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("edits", "uid", "version"),
    [
        (NODE, UID, "0.3.0"),
        (ContainerEdits(mounts=(Mount(host_path="/a", container_path="/a", type="tmpfs"),)), UID, "0.4.0"),
        (NODE, "0" + UID[1:], "0.5.0"),
        (ContainerEdits(device_nodes=(DeviceNode(path="/dev/a", host_path="/host/dev/a"),)), UID, "0.5.0"),
        (ContainerEdits(additional_gids=(44,)), UID, "0.7.0"),
    ],
)
@pytest.mark.parametrize("where", ["device", "common"])
def test_the_version_is_the_lowest_that_covers_what_is_used(
    edits: ContainerEdits, uid: str, version: str, where: str
) -> None:
    spec = (
        describe(EMPTY, ("gpu-0", edits), uid=uid) if where == "device" else describe(edits, ("gpu-0", NODE), uid=uid)
    )
    assert read(spec)["cdiVersion"] == version


def test_hooks_use_the_words_of_the_specification() -> None:
    hook = Hook(hook_name="createContainer", path="/bin/hook", args=("hook", "x"), env=("A=1",), timeout=3)
    document = read(describe(ContainerEdits(hooks=(hook,)), ("gpu-0", NODE)))
    assert document["containerEdits"] == {
        "hooks": [
            {"hookName": "createContainer", "path": "/bin/hook", "args": ["hook", "x"], "env": ["A=1"], "timeout": 3}
        ]
    }


def test_files_tell_their_owner() -> None:
    assert cdi.find_owner(DRIVER, cdi.name_file(DRIVER, UID)) == UID
    assert cdi.find_owner(DRIVER, f"{DRIVER}_metadata_{UID}_my-request.json") == UID
    assert cdi.find_owner("gpu.other.dev", cdi.name_file(DRIVER, UID)) is None
    assert cdi.find_owner(DRIVER, f".{cdi.name_file(DRIVER, UID)}.tmp") is None


def test_the_judge_refuses_what_a_runtime_refuses() -> None:
    for broken in (
        b'{"cdiVersion":"0.3.0","kind":"a/b","devices":[{"name":"x","containerEdits":{}}]}',
        b'{"cdiVersion":"0.3.0","kind":"a/b","devices":[]}',
        b'{"cdiVersion":"0.3.0","kind":"1a/b","devices":[{"name":"x","containerEdits":{"env":["A=1"]}}]}',
        b'{"cdiVersion":"0.3.0","kind":"a/b","devices":[{"name":"-x","containerEdits":{"env":["A=1"]}}]}',
        b'{"cdiVersion":"0.3.0","kind":"a/b","devices":[{"name":"x","containerEdits":{"env":["A"]}}]}',
    ):
        with pytest.raises(jsonschema.ValidationError):
            judge.check(broken)
    with pytest.raises(AssertionError, match="version"):
        judge.check(b'{"cdiVersion":"0.3.0","kind":"a/b","devices":[{"name":"0","containerEdits":{"env":["A=1"]}}]}')


PATHS = st.from_regex(r"/[a-z0-9/._-]{1,20}", fullmatch=True)
NUMBERS = st.none() | st.integers(0, 2**20)
EDITS = st.builds(
    ContainerEdits,
    env=st.lists(st.from_regex(r"[A-Z_]{1,8}=.{0,8}", fullmatch=True), max_size=3).map(tuple),
    device_nodes=st.lists(
        st.builds(
            DeviceNode,
            path=PATHS,
            host_path=st.none() | PATHS,
            type=st.sampled_from([None, "c", "b"]),
            major=NUMBERS,
            minor=NUMBERS,
            file_mode=NUMBERS,
            permissions=st.sampled_from([None, "rw", "rwm"]),
            uid=NUMBERS,
            gid=NUMBERS,
        ),
        max_size=3,
    ).map(tuple),
    mounts=st.lists(
        st.builds(
            Mount,
            host_path=PATHS,
            container_path=PATHS,
            options=st.lists(st.sampled_from(["ro", "bind", "nosuid"])).map(tuple),
            type=st.sampled_from([None, "bind"]),
        ),
        max_size=3,
    ).map(tuple),
    additional_gids=st.lists(st.integers(0, 2**32 - 1), max_size=2).map(tuple),
)


@given(
    common=EDITS,
    devices=st.dictionaries(st.from_regex(r"gpu-[a-z0-9]{1,8}", fullmatch=True), EDITS, min_size=1, max_size=4),
    uid=st.uuids().map(str),
)
def test_any_edits_of_a_vendor_give_a_valid_document(
    common: ContainerEdits, devices: dict[str, ContainerEdits], uid: str
) -> None:
    spec = describe(common, *devices.items(), uid=uid)
    assert spec == describe(common, *devices.items(), uid=uid)
    assert len(spec.ids) == len(devices)
    if spec.file is None:
        assert not any(spec.ids)
    else:
        names = [entry["name"] for entry in read(spec)["devices"]]  # type: ignore[attr-defined]
        assert [f"k8s.{DRIVER}/claim={name}" for name in names] == [name for ids in spec.ids for name in ids]
