"""Each way in which the folders can be wrong gives its own line."""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from driver.cli.checks.findings import Finding, Level
from driver.cli.checks.folders import Folders, find_problem, parse_filesystem
from driver.kubelet import sockets
from driver.model.errors import InvalidInput, Unavailable
from driver.model.prepared import Phase, Record
from driver.settings import Settings
from driver.state import record_files
from tests.fakes.folders import Machine


@pytest.fixture
def machine() -> Iterator[Machine]:
    # Socket paths have to be short, tmp_path is not.
    with tempfile.TemporaryDirectory(prefix="m") as root:
        yield Machine(Path(root))


@contextmanager
def listening(path: Path) -> Iterator[None]:
    """A socket on which somebody listens."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
        server.bind(str(path))
        server.listen()
        yield


def leave_socket(path: Path) -> None:
    """What a plugin that was killed leaves behind."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
        server.bind(str(path))


def worst(findings: list[Finding]) -> Finding:
    order = list(Level)
    return max(findings, key=lambda finding: order.index(finding.level))


def test_a_complete_machine_has_no_failure(machine: Machine) -> None:
    for check in Folders(machine.settings()).list_checks():
        assert worst(list(check.look())).level is not Level.FAILED, check.name


@pytest.mark.parametrize(("kind", "words"), [("tmpfs", "(tmpfs)"), ("ext4", "(ext4: specs outlive a reboot")])
def test_the_cdi_folder_and_its_file_system(machine: Machine, kind: str, words: str) -> None:
    machine.mount(machine.cdi, kind)
    (finding,) = Folders(machine.settings()).look_at_cdi()
    assert finding.level is Level.OK
    assert words in finding.text


def test_a_cdi_folder_to_be_made(machine: Machine) -> None:
    machine.cdi.rmdir()
    (finding,) = Folders(machine.settings()).look_at_cdi()
    assert finding.level is Level.OK
    assert "the plugin makes it" in finding.text


def test_a_cdi_folder_that_is_a_file(machine: Machine) -> None:
    machine.cdi.rmdir()
    machine.cdi.touch()
    (finding,) = Folders(machine.settings()).look_at_cdi()
    assert finding.level is Level.FAILED
    assert "is not a folder" in finding.text
    assert "cdi_spec_dirs" in finding.advice


def test_without_a_mount_table_the_file_system_is_unknown(machine: Machine) -> None:
    (machine.proc / "self" / "mountinfo").unlink()
    (finding,) = Folders(machine.settings()).look_at_cdi()
    assert "file system unknown" in finding.text


@pytest.mark.parametrize("name", ["plugins_registry", "plugins"])
def test_a_kubelet_folder_that_is_not_there(machine: Machine, name: str) -> None:
    folder = machine.kubelet / name
    folder.rename(machine.kubelet / "elsewhere")
    folder.touch()
    finding = worst(list(Folders(machine.settings()).look_at_kubelet()))
    assert finding.level is Level.FAILED
    assert name in finding.text
    assert "--root-dir" in finding.advice


def test_the_registration_folder_is_not_made_by_us(machine: Machine) -> None:
    machine.registry.rmdir()
    finding = worst(list(Folders(machine.settings()).look_at_kubelet()))
    assert finding.text.endswith("plugins_registry does not exist")


def test_socket_paths_that_are_too_long_name_the_folder(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 90)
    machine = Machine(deep)

    with pytest.raises(InvalidInput, match="kubelet-plugins-dir") as error:
        list(Folders(machine.settings()).look_at_kubelet())
    assert "107" in error.value.allowed


def test_no_plugin_serves(machine: Machine) -> None:
    (finding,) = Folders(machine.settings()).look_at_sockets()
    assert finding.level is Level.WARNING
    assert "no plugin of gpu.accel-dra.dev serves" in finding.text


def test_a_plugin_serves_beside_other_drivers(machine: Machine) -> None:
    leave_socket(machine.registry / "other.example.com-reg.sock")
    with listening(machine.registry / "gpu.accel-dra.dev-reg.sock"):
        (finding,) = Folders(machine.settings()).look_at_sockets()
    assert finding.level is Level.OK
    assert "other" not in finding.text


def test_a_dead_plugins_socket(machine: Machine) -> None:
    leave_socket(machine.registry / "gpu.accel-dra.dev-reg.sock")
    dead, none = Folders(machine.settings()).look_at_sockets()
    assert "nobody listens" in dead.text
    assert "no plugin" in none.text


def test_a_file_in_the_place_of_a_socket_is_no_plugin(machine: Machine) -> None:
    (machine.registry / "gpu.accel-dra.dev-reg.sock").touch()
    found = list(Folders(machine.settings()).look_at_sockets())
    assert [finding.level for finding in found] == [Level.WARNING, Level.WARNING]


def test_the_sockets_of_our_own_pod_are_found_under_their_short_name(machine: Machine) -> None:
    registry = machine.root / ("r" * 50)
    registry.mkdir()
    options = machine.settings(
        pod_uid="f" * 36, driver_name="rather-long.example.com", kubelet_registry_dir=str(registry)
    )
    names = sockets.name(
        options.driver_name, options.kubelet_plugins_dir, options.kubelet_registry_dir, options.pod_uid
    )
    assert not Path(names.registration).name.startswith(options.driver_name)
    with listening(Path(names.registration)):
        (finding,) = Folders(options).look_at_sockets()
    assert finding.level is Level.OK


def test_a_kubelet_that_answers_and_one_that_does_not(machine: Machine) -> None:
    folder = machine.kubelet / "pod-resources"
    folder.mkdir()
    with listening(folder / "kubelet.sock"):
        assert [finding.text for finding in Folders(machine.settings()).look_at_sockets()][-1] == "the kubelet answers"
    (*_, finding) = Folders(machine.settings()).look_at_sockets()
    assert finding.level is Level.FAILED
    assert "systemctl status kubelet" in finding.advice


def test_records_are_counted(machine: Machine) -> None:
    for uid in ("uid-1", "uid-2"):
        record = Record(uid=uid, namespace="ns", name=uid, phase=Phase.PREPARED, boot_id="b")
        machine.write(f"claims/{uid}.json", record_files.encode(record).decode())
    (finding,) = Folders(machine.settings()).look_at_state()
    assert finding.level is Level.OK
    assert "2 claims prepared" in finding.text


def test_a_record_that_cannot_be_read(machine: Machine) -> None:
    machine.write("claims/uid-1.json", "{")
    broken, count = Folders(machine.settings()).look_at_state()
    assert broken.level is Level.WARNING
    assert "uid-1.json" in broken.text
    assert "0 claims" in count.text


def test_records_need_the_boot_id(machine: Machine) -> None:
    (machine.proc / "sys" / "kernel" / "random" / "boot_id").unlink()
    with pytest.raises(Unavailable, match="boot id"):
        list(Folders(machine.settings()).look_at_state())


def test_records_that_were_set_aside(machine: Machine) -> None:
    machine.write("quarantine/uid-1.json", "?")
    machine.write("quarantine/uid-1.json.reason", "it is not a record\n")
    machine.write("quarantine/uid-2.json", "?")
    first, second, _ = Folders(machine.settings()).look_at_state()
    assert first.level is Level.WARNING
    assert first.text.endswith("quarantine/uid-1.json was set aside: it is not a record")
    assert second.text.endswith("quarantine/uid-2.json was set aside")


def test_records_in_memory_are_a_warning(machine: Machine) -> None:
    machine.state.mkdir(parents=True)
    machine.mount(machine.state, "tmpfs")
    finding = next(iter(Folders(machine.settings()).look_at_state()))
    assert finding.level is Level.WARNING
    assert "lost at a reboot" in finding.text


def test_a_state_folder_of_its_own_that_is_a_file(machine: Machine) -> None:
    (machine.root / "state").touch()
    (finding,) = Folders(machine.settings(state_dir=str(machine.root / "state"))).look_at_state()
    assert finding.level is Level.FAILED


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    assert find_problem(tmp_path, to_be_made=True) == "cannot be written"
    assert "cannot be written" in find_problem(tmp_path / "new", to_be_made=True)


def test_a_folder_on_a_read_only_file_system() -> None:
    """Also root is refused there: sysfs takes no new files, whoever asks."""
    frozen = Path(Settings().proc_root, "sys")
    if os.access(frozen, os.W_OK):
        pytest.skip("procfs can be written here")
    assert find_problem(frozen, to_be_made=False) == "cannot be written"


TABLE = """\
22 1 0:20 / / rw,relatime - ext4 /dev/vda1 rw
23 22 0:21 / /run rw,nosuid - tmpfs tmpfs rw
24 23 0:22 / /run/with\\040space rw shared:3 - xfs /dev/vdb rw
25 22 0:23 / /runner rw - btrfs /dev/vdc rw
26 22 0:24 / /data rw - nfs4 server:/ rw
27 22 0:25 / /data rw - tmpfs tmpfs rw
half a line
"""


@pytest.mark.parametrize(
    ("folder", "kind"),
    [
        ("/", "ext4"),
        ("/var/lib", "ext4"),
        ("/run", "tmpfs"),
        ("/run/cdi", "tmpfs"),
        ("/run/with space/cdi", "xfs"),
        ("/runner/x", "btrfs"),
        ("/data/records", "tmpfs"),
    ],
)
def test_the_file_system_of_a_folder(folder: str, kind: str) -> None:
    assert parse_filesystem(TABLE, folder) == kind


def test_an_empty_mount_table_says_nothing() -> None:
    assert parse_filesystem("", "/run") == ""
