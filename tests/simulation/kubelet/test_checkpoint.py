"""The kubelet's file: laid out as the real one's, whole or not at all, and all of it unprepared after a restart."""

from __future__ import annotations

import json
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from driver.model.errors import Corrupt
from driver.model.prepared import ClaimRef
from driver.simulation.kubelet import checkpoint
from driver.simulation.kubelet.checkpoint import FILE_NAME, ClaimInfo
from driver.simulation.kubelet.wire import Device
from tests.fakes.plugins import short_folder

GPU = Device(("gpu",), "node-1", "gpu-0", ("example.com/claim=a",), "share-1")
INFO = ClaimInfo(ClaimRef("ns", "claim", "uid-1"), {"pod-2", "pod-1"}, prepared=True, drivers={"d.example.com": [GPU]})


def test_nothing_is_known_without_a_file(tmp_path: Path) -> None:
    assert checkpoint.read(tmp_path) == []


def test_the_file_is_json_in_json_with_the_real_ones_names(tmp_path: Path) -> None:
    checkpoint.write(tmp_path, [INFO])
    document = json.loads((tmp_path / FILE_NAME).read_text())
    assert set(document) == {"Data", "Checksum"}
    assert document["Checksum"] == zlib.crc32(document["Data"].encode())
    assert json.loads(document["Data"]) == {
        "kind": "DRACheckpoint",
        "apiVersion": "checkpoint.dra.kubelet.k8s.io/v1",
        "ClaimInfoStateList": [
            {
                "ClaimUID": "uid-1",
                "ClaimName": "claim",
                "Namespace": "ns",
                "PodUIDs": {"pod-1": {}, "pod-2": {}},
                "DriverState": {
                    "d.example.com": {
                        "Devices": [
                            {
                                "PoolName": "node-1",
                                "DeviceName": "gpu-0",
                                "RequestNames": ["gpu"],
                                "CDIDeviceIDs": ["example.com/claim=a"],
                                "ShareID": "share-1",
                            }
                        ]
                    }
                },
            }
        ],
    }
    assert [path.name for path in tmp_path.iterdir()] == [FILE_NAME], "no temporary file is left"


NAMES = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20)
DEVICES = st.builds(
    Device,
    st.lists(NAMES, max_size=2).map(tuple),
    NAMES,
    NAMES,
    st.lists(NAMES, max_size=2).map(tuple),
    st.none() | NAMES,
)
INFOS = st.builds(
    ClaimInfo,
    st.builds(ClaimRef, NAMES, NAMES, NAMES),
    st.sets(NAMES, max_size=3),
    prepared=st.booleans(),
    drivers=st.dictionaries(NAMES, st.lists(DEVICES, max_size=3), max_size=2),
)


@given(st.lists(INFOS, max_size=3))
def test_all_but_being_prepared_comes_back(infos: list[ClaimInfo]) -> None:
    with short_folder() as folder:
        checkpoint.write(folder, infos)
        found = checkpoint.read(folder)
    assert [(each.claim, each.pod_uids, each.drivers) for each in found] == [
        (each.claim, each.pod_uids, each.drivers) for each in infos
    ]
    assert not any(each.prepared for each in found)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "{}",
        '{"Data": "{}"}',
        '{"Data": "{}", "Checksum": 1}',
        json.dumps({"Data": "[]", "Checksum": zlib.crc32(b"[]")}),
        json.dumps({"Data": '{"ClaimInfoStateList": [{}]}', "Checksum": zlib.crc32(b'{"ClaimInfoStateList": [{}]}')}),
    ],
)
def test_a_file_that_is_not_whole_is_refused_by_name(tmp_path: Path, content: str) -> None:
    (tmp_path / FILE_NAME).write_text(content)
    with pytest.raises(Corrupt, match=FILE_NAME):
        checkpoint.read(tmp_path)


def test_one_changed_character_is_noticed(tmp_path: Path) -> None:
    checkpoint.write(tmp_path, [INFO])
    path = tmp_path / FILE_NAME
    path.write_text(path.read_text().replace("gpu-0", "gpu-1"))
    with pytest.raises(Corrupt, match="checksum"):
        checkpoint.read(tmp_path)
