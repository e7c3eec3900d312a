"""What we prepare is injected by a real container runtime: podman reads our specs from the CDI folder.

Skipped, with the reason, where there is no podman that can run a container. Runtimes give no way to name another CDI
folder, so the specs are written to the real one, under a driver name of this test's own, and removed again.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from driver.model.prepared import ContainerEdits, DeviceNode, Mount
from driver.node.preparer import Preparer
from driver.settings import Settings
from tests.fakes.bench import Bench, claim, device, prepare_one, result, unprepare_one

CDI_FOLDER = Path("/var/run/cdi")
PODMAN = [
    *("podman", "run", "--rm", "--network=none", "--runtime=runc"),
    *("--ulimit=nofile=1024:1024", "--ulimit=nproc=1024:1024"),
]


@pytest.fixture(scope="module")
def rootfs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a root file system that podman can run, or skip."""
    busybox = shutil.which("busybox")
    if not shutil.which("podman") or not shutil.which("runc") or not busybox:
        pytest.skip("podman, runc and busybox are needed")
    if os.geteuid() != 0:
        pytest.skip("only root can write to the CDI folder")
    root = tmp_path_factory.mktemp("rootfs")
    root.chmod(0o755)
    for folder in ("bin", "dev", "proc", "sys", "etc", "tmp", "run", "var"):
        (root / folder).mkdir()
    shutil.copy(busybox, root / "bin/busybox")
    (root / "bin/sh").symlink_to("busybox")
    tried = subprocess.run(
        [*PODMAN, "--rootfs", str(root), "/bin/sh", "-c", "true"], capture_output=True, text=True, check=False
    )
    if tried.returncode:
        pytest.skip(f"podman cannot run a container here: {tried.stderr.strip()[-200:]}")
    return root


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """Return a node whose accelerators are /dev/null under another name, with a library of their own."""
    made = Bench(tmp_path)
    (tmp_path / "libbench.so").write_text("a library\n")
    made.vendor.common = ContainerEdits(
        env=("BENCH_VISIBLE=yes",),
        mounts=(
            Mount(
                host_path=str(tmp_path / "libbench.so"),
                container_path="/usr/lib/libbench.so",
                options=("ro", "nosuid", "nodev", "bind"),
            ),
        ),
    )
    made.vendor.edits = ContainerEdits(
        device_nodes=(DeviceNode(path="/dev/bench0", host_path="/dev/null", permissions="rw"),)
    )
    return made


@pytest.fixture
def settings(bench: Bench) -> Iterator[Settings]:
    driver = f"test-{uuid.uuid4().hex[:8]}.accel-dra.dev"
    yield dataclasses.replace(bench.settings, cdi_root=str(CDI_FOLDER), driver_name=driver)
    for path in CDI_FOLDER.glob(f"*{driver}*"):
        path.unlink()


@pytest.fixture
def preparer(bench: Bench, settings: Settings) -> Iterator[Preparer]:
    opened = bench.open(settings)
    opened.recover()
    yield opened
    opened.close()


def start(rootfs: Path, script: str, *ids: str, user: str = "0") -> subprocess.CompletedProcess[str]:
    """Run a script in a container that was given these CDI devices."""
    devices = [f"--device={name}" for name in ids]
    command = [*PODMAN, f"--user={user}", "--cap-drop=all", *devices, "--rootfs", str(rootfs), "/bin/sh", "-c", script]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=50)


def prepare(bench: Bench, preparer: Preparer, settings: Settings) -> tuple[str, ...]:
    wanted = bench.add(claim(f"c{uuid.uuid4().hex}", result(device(1), driver=settings.driver_name)))
    answer = prepare_one(preparer, wanted)
    assert not answer.error
    return answer.devices[0].cdi_device_ids


def test_a_container_gets_what_its_claim_was_given(
    bench: Bench, preparer: Preparer, settings: Settings, rootfs: Path
) -> None:
    ids = prepare(bench, preparer, settings)
    name = bench.records()[0].name
    document = (
        f"/var/run/kubernetes.io/dra-device-attributes/resourceclaims/{name}/gpu/{settings.driver_name}-metadata.json"
    )
    script = (
        "busybox env; busybox stat -c 'node %F %t:%T' /dev/bench0; echo x > /dev/bench0 && echo written;"
        f"busybox cat /usr/lib/libbench.so {document}"
    )
    ran = start(rootfs, script, *ids, user="1000")
    assert ran.returncode == 0, ran.stderr
    lines = ran.stdout.splitlines()
    assert "BENCH_VISIBLE=yes" in lines
    assert "node character special file 1:3" in lines
    assert "written" in lines, "a user without privileges can use the device"
    assert "a library" in lines
    told = json.loads(lines[-1])
    assert told["requests"][0]["devices"][0]["name"] == device(1)


def test_a_container_without_a_claim_sees_nothing(
    bench: Bench, preparer: Preparer, settings: Settings, rootfs: Path
) -> None:
    prepare(bench, preparer, settings)
    ran = start(rootfs, "busybox env; busybox ls /dev /usr/lib 2>&1; true")
    assert ran.returncode == 0, ran.stderr
    assert "BENCH_VISIBLE" not in ran.stdout
    assert "bench0" not in ran.stdout


def test_after_unprepare_the_device_cannot_be_had(
    bench: Bench, preparer: Preparer, settings: Settings, rootfs: Path
) -> None:
    ids = prepare(bench, preparer, settings)
    record = bench.records()[0]
    assert unprepare_one(preparer, bench.add(bench.claims[record.name])) == ""
    ran = start(rootfs, "true", *ids)
    assert ran.returncode != 0
    assert "unresolvable CDI devices" in ran.stderr
