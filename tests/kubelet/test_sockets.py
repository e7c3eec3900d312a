"""Sockets: names within the limit, one owner a path, nothing left behind and nothing of others taken away."""

from __future__ import annotations

import base64
import fcntl
import hashlib
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from driver.kubelet import sockets
from driver.kubelet.sockets import Ownership, Sockets
from driver.model.errors import Conflict, InvalidInput, StorageFailed

DRIVER = "gpu.accel-dra.dev"
UID = "7f3c9a52-2b7e-4e0f-9d0a-1c2b3d4e5f60"
PLUGINS = "/var/lib/kubelet/plugins"
REGISTRY = "/var/lib/kubelet/plugins_registry"


@pytest.fixture
def folder() -> Iterator[Path]:
    """Return a folder with a short path: the paths that pytest makes leave too little of a socket's 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="dra-") as path:
        yield Path(path)


def listen(path: Path) -> socket.socket:
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    server.bind(str(path))
    server.listen()
    return server


def dead_socket(path: Path) -> None:
    listen(path).close()


def test_plain_names() -> None:
    assert sockets.name(DRIVER, PLUGINS, REGISTRY, "") == Sockets(
        f"{PLUGINS}/{DRIVER}/dra.sock", f"{REGISTRY}/{DRIVER}-reg.sock"
    )


def test_names_of_one_pod() -> None:
    assert sockets.name(DRIVER, PLUGINS, REGISTRY, UID) == Sockets(
        f"{PLUGINS}/{DRIVER}/dra-{UID}.sock", f"{REGISTRY}/{DRIVER}-{UID}-reg.sock"
    )


def test_a_long_driver_name_gets_a_digest_of_the_pod() -> None:
    driver = "a" * 40 + ".example.com"
    digest = base64.urlsafe_b64encode(hashlib.sha256(UID.encode()).digest()[:8]).rstrip(b"=").decode()
    assert sockets.name(driver, "/p", REGISTRY, UID).registration == f"{REGISTRY}/{driver}-{digest}-reg.sock"


def test_the_longest_driver_name_gets_a_digest_of_both() -> None:
    driver = "a" * 51 + ".example.com"
    digest = base64.urlsafe_b64encode(hashlib.sha256(f"{driver}\0{UID}".encode()).digest()[:16]).rstrip(b"=").decode()
    assert len(driver) == 63
    assert sockets.name(driver, "/p", REGISTRY, UID).registration == f"{REGISTRY}/dra-{digest}-reg.sock"


def test_the_dra_socket_of_a_long_driver_name_fits_too() -> None:
    for length in range(13, 64):
        driver = "a" * (length - 12) + ".example.com"
        path = sockets.name(driver, PLUGINS, REGISTRY, UID).dra
        assert len(path) <= 107
        assert path.startswith(f"{PLUGINS}/{driver}/")
        assert path != sockets.name(driver, PLUGINS, REGISTRY, UID[::-1]).dra


def test_107_bytes_are_allowed_and_108_are_not() -> None:
    overhead = len("/drv/dra.sock")
    assert len(sockets.name("drv", "/" + "p" * (106 - overhead), "/r", "").dra) == 107
    with pytest.raises(InvalidInput, match="107 bytes"):
        sockets.name("drv", "/" + "p" * (107 - overhead), "/r", "")
    with pytest.raises(InvalidInput, match="kubelet-registry-dir"):
        sockets.name("drv", "/p", "/" + "r" * 100, UID)


def test_paths_are_absolute_because_the_kubelet_dials_them() -> None:
    with pytest.raises(InvalidInput, match="absolute"):
        sockets.name(DRIVER, "plugins", REGISTRY, "")


def test_a_second_owner_is_refused(folder: Path) -> None:
    path = str(folder / "dra.sock")
    first = Ownership.take(path, DRIVER)
    with pytest.raises(Conflict, match=r"already serves.*dra\.sock"):
        Ownership.take(path, DRIVER)
    first.release()
    first.release()
    Ownership.take(path, DRIVER).release()
    assert list(folder.iterdir()) == []


def test_a_dead_socket_is_cleared_away(folder: Path) -> None:
    dead_socket(folder / "dra.sock")
    owned = Ownership.take(str(folder / "dra.sock"), DRIVER)
    assert not (folder / "dra.sock").exists()
    owned.release()


def test_a_live_socket_is_never_taken_even_if_its_lock_was_lost(folder: Path) -> None:
    with listen(folder / "dra.sock"), pytest.raises(Conflict, match="already serves"):
        Ownership.take(str(folder / "dra.sock"), DRIVER)
    assert (folder / "dra.sock").exists()


def test_a_file_in_the_way_is_not_deleted(folder: Path) -> None:
    (folder / "dra.sock").write_text("precious")
    with pytest.raises(InvalidInput, match=r"dra\.sock"):
        Ownership.take(str(folder / "dra.sock"), DRIVER)
    assert (folder / "dra.sock").read_text() == "precious"


def test_a_folder_that_is_not_there_is_said_clearly(folder: Path) -> None:
    with pytest.raises(StorageFailed, match="No such file"):
        Ownership.take(str(folder / "gone" / "dra.sock"), DRIVER)


def test_nothing_leaks_when_taking_fails(folder: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    owned = Ownership.take(str(folder / "dra.sock"), DRIVER)
    for _ in range(5):
        with pytest.raises(Conflict):
            Ownership.take(str(folder / "dra.sock"), DRIVER)
    owned.release()
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def leave_behind(path: Path, driver: str) -> None:
    """Leave what a killed plugin leaves: a socket nobody listens on and a lock file nobody holds."""
    dead_socket(path)
    (path.parent / f".{path.name}.lock").write_text(driver)


def test_sweeping_removes_what_dead_instances_left(folder: Path) -> None:
    leave_behind(folder / f"{DRIVER}-old-reg.sock", DRIVER)
    leave_behind(folder / "dra-digest-reg.sock", DRIVER)
    assert sockets.sweep(folder, DRIVER) == [
        str(folder / "dra-digest-reg.sock"),
        str(folder / f"{DRIVER}-old-reg.sock"),
    ]
    assert list(folder.iterdir()) == []


def test_sweeping_leaves_living_instances_and_other_drivers_alone(folder: Path) -> None:
    alive = Ownership.take(str(folder / f"{DRIVER}-new-reg.sock"), DRIVER)
    leave_behind(folder / f"{DRIVER}-too-reg.sock", f"{DRIVER}-too")
    dead_socket(folder / f"{DRIVER}-unknown-reg.sock")
    with listen(folder / f"{DRIVER}-new-reg.sock"):
        before = sorted(folder.iterdir())
        assert sockets.sweep(folder, DRIVER) == []
        assert sorted(folder.iterdir()) == before
    alive.release()


def test_sweeping_a_folder_that_is_not_there_is_nothing(folder: Path) -> None:
    assert sockets.sweep(folder / "gone", DRIVER) == []


def test_slashes_at_the_end_of_folders_are_not_part_of_paths() -> None:
    """The kubelet compares the endpoint with what it has, as text."""
    assert sockets.name(DRIVER, f"{PLUGINS}/", f"{REGISTRY}//", UID) == sockets.name(DRIVER, PLUGINS, REGISTRY, UID)


def test_a_lock_file_that_is_replaced_while_it_is_taken_is_not_the_lock(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The owner before removes the file between our opening and our locking it; the next one makes its own."""
    lock = folder / ".dra.sock.lock"
    flock, calls = fcntl.flock, []

    def meddle(descriptor: int, operation: int) -> None:
        flock(descriptor, operation)
        calls.append(descriptor)
        if len(calls) == 1:
            lock.unlink()

    monkeypatch.setattr(fcntl, "flock", meddle)  # the kernel's, to meet a race that has no other handle
    owned = Ownership.take(str(folder / "dra.sock"), DRIVER)
    monkeypatch.undo()
    assert len(calls) == 2
    assert lock.read_text() == DRIVER
    with pytest.raises(Conflict, match="already serves"):
        Ownership.take(str(folder / "dra.sock"), DRIVER)
    owned.release()
