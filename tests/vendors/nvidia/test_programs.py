"""Programs of the driver are found in its root, run in it, and see what they are shown."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from driver.model.errors import StepFailed, Unavailable, Unsupported
from driver.model.sharing import Sharing, Strategy
from driver.vendors.nvidia import mounts, rooted
from driver.vendors.nvidia.driver_files import Finder
from driver.vendors.nvidia.mounts import SharedMemory, is_shared
from driver.vendors.nvidia.programs import Programs, View
from tests.vendors.nvidia.machine import Rig
from tests.vendors.nvidia.sharers import Shop

ROOTED = str(rooted.__file__)
PLAIN = {"root": "", "folders": {}, "shm": ""}


def run_rooted(plan: Mapping[str, object], *command: str) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-IS", ROOTED, json.dumps({**PLAIN, **plan}), *command]
    return subprocess.run(words, capture_output=True, text=True, check=False)


@pytest.fixture
def privileged(tmp_path: Path) -> None:
    """Skip where this user may not mount."""
    if run_rooted({"folders": {"X": str(tmp_path)}}, "/bin/true").returncode != 0:
        pytest.skip("making a mount namespace needs CAP_SYS_ADMIN")


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path, "t4")


def programs(rig: Rig, *, isolated: bool) -> Programs:
    roots = rig.tree.roots()
    return Programs(Finder(roots.driver_root, roots.driver_root_mount), isolated=isolated)


def test_a_program_that_the_driver_does_not_bring_is_unsupported(rig: Rig) -> None:
    with pytest.raises(Unsupported, match="nvidia-imex is not in the driver root"):
        programs(rig, isolated=True).command("nvidia-imex", ())


def test_without_a_driver_there_is_no_program(rig: Rig) -> None:
    rig.tree.uninstall(rig.node.driver_version)
    with pytest.raises(Unavailable):
        programs(rig, isolated=True).command("nvidia-smi", ())


def test_a_root_that_is_a_system_is_entered(rig: Rig) -> None:
    rig.tree.write("bin/sh", b"", mode=0o755)
    command = programs(rig, isolated=True).command("nvidia-smi", ("-L",), View({"X": "/state"}, "/shm"))
    assert command.words[:3] == (sys.executable, "-IS", ROOTED)
    assert json.loads(command.words[3]) == {"root": str(rig.tree.driver), "folders": {"X": "/state"}, "shm": "/shm"}
    assert command.words[4:] == ("/usr/bin/nvidia-smi", "-L")
    assert command.environment == {}


def test_a_root_with_the_drivers_files_only_is_not_entered(rig: Rig) -> None:
    command = programs(rig, isolated=True).command("nvidia-smi", ())
    assert json.loads(command.words[3])["root"] == ""
    assert command.words[4:] == (str(rig.tree.driver / "usr/bin/nvidia-smi"),)
    (search,) = command.environment.values()
    assert str(rig.loader_path.parent) in search.split(":")


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("#!/bin/sh\necho one\necho No devices were found\necho\nexit 6\n", "exit status 6: No devices were found"),
        ("#!/bin/sh\nexit 1\n", "exit status 1: it said nothing"),
        ("#!/bin/sh\nexec sleep 1000\n", "did not end within 0.2 s"),
        ("#!/no/such/interpreter\n", "cannot be run: No such file or directory"),
    ],
)
def test_a_program_that_fails_is_told_with_its_last_words(rig: Rig, script: str, why: str) -> None:
    rig.tree.write("usr/bin/nvidia-smi", script.encode(), mode=0o755)
    found = programs(rig, isolated=False)
    with pytest.raises(StepFailed) as caught:
        found.run("time-slice", found.command("nvidia-smi", ()), seconds=0.2 if "sleep" in script else 40.0)
    assert why in str(caught.value)
    assert str(caught.value).startswith("step time-slice: nvidia-smi")


def test_input_and_output_are_those_of_the_program(rig: Rig) -> None:
    rig.tree.write("usr/bin/nvidia-smi", b"#!/bin/sh\ncat; echo to stderr >&2; echo $0 $1\n", mode=0o755)
    found = programs(rig, isolated=True)
    output = found.run("step", found.command("nvidia-smi", ("-x",)), "hello\n", seconds=40.0)
    assert output == f"hello\nto stderr\n{rig.tree.driver}/usr/bin/nvidia-smi -x\n"


def test_a_program_of_rooted_that_does_not_exist_is_one_sentence() -> None:
    done = run_rooted({}, "/no/such/program")
    assert (done.returncode, done.stderr) == (1, "/no/such/program: No such file or directory\n")


@pytest.mark.usefixtures("privileged")
def test_folders_are_shown_under_short_paths_and_nobody_else_sees_them(tmp_path: Path) -> None:
    deep = tmp_path / ("x" * 120)
    deep.mkdir()
    (deep / "inside").touch()
    script = 'echo "$PIPE $LOG"; ls "$PIPE"; touch "$LOG/written"; grep -c " $PIPE " /proc/self/mountinfo'
    done = run_rooted({"folders": {"PIPE": str(deep), "LOG": str(tmp_path)}}, "/bin/sh", "-c", script)
    assert done.stderr == ""
    first, listing, count = done.stdout.splitlines()
    pipe = first.split()[0]
    assert len(pipe) < 10
    assert (listing, count) == ("inside", "1")
    assert (tmp_path / "written").exists()
    assert f" {pipe} " not in Path("/proc/self/mountinfo").read_text()


@pytest.mark.usefixtures("privileged")
def test_shared_memory_takes_the_place_of_the_programs_own(tmp_path: Path) -> None:
    (tmp_path / "segment").touch()
    done = run_rooted({"shm": str(tmp_path)}, "/bin/ls", "/dev/shm")
    assert (done.stdout, done.stderr) == ("segment\n", "")


@pytest.mark.usefixtures("privileged")
def test_the_root_is_entered_last(tmp_path: Path) -> None:
    (tmp_path / "inside").touch()
    plan = {"root": "/proc/self/root", "folders": {"PIPE": str(tmp_path)}}
    done = run_rooted(plan, "/bin/sh", "-c", 'pwd; ls "$PIPE"')
    assert (done.stdout, done.stderr) == ("/\ninside\n", "")


@pytest.mark.usefixtures("privileged")
def test_a_root_without_a_place_for_folders_is_one_sentence(tmp_path: Path) -> None:
    done = run_rooted({"root": str(tmp_path), "folders": {"PIPE": str(tmp_path)}}, "/bin/true")
    assert (done.returncode, done.stderr) == (1, f"{tmp_path} has neither of /mnt, /tmp\n")


@pytest.mark.usefixtures("privileged")
def test_an_mps_daemon_runs_in_a_view_of_its_own(tmp_path: Path) -> None:
    shop = Shop(tmp_path, isolated=True)
    try:
        steps, _ = shop.prepare(shop.target(0, Sharing(Strategy.MPS, None, 30)))
        (shop.service.root / "claim-c1/shm/segment").touch()
        view = View({"CUDA_MPS_PIPE_DIRECTORY": str(shop.service.root / "claim-c1/pipe")})
        command = shop.programs.command("nvidia-cuda-mps-control", (), view)
        place, percentage = shop.programs.run(
            "step", command, "fake_place\nget_default_active_thread_percentage\n"
        ).splitlines()
        assert place == "/mnt/0 ['segment']"
        assert percentage == "30.0"
        shop.unprepare(steps)
        assert shop.left() == []
    finally:
        shop.sweep()


# -- shared memory ------------------------------------------------------------------------------------------

TABLE = """\
22 1 0:20 / / rw,relatime - overlay overlay rw
30 22 8:1 /lib/kubelet/plugins/x /var/lib/kubelet/plugins/x rw,relatime {shared}- ext4 /dev/sda1 rw
31 22 8:1 /y /var/lib/kubelet/plugins/x\\040y rw,relatime master:4 - ext4 /dev/sda1 rw
"""


@pytest.mark.parametrize(
    ("shared", "folder", "expected"),
    [
        ("shared:5 ", "/var/lib/kubelet/plugins/x/nvidia/mps", True),
        ("shared:5 ", "/var/lib/kubelet/plugins/x", True),
        ("shared:5 master:3 ", "/var/lib/kubelet/plugins/x/nvidia/mps", True),
        ("", "/var/lib/kubelet/plugins/x/nvidia/mps", False),
        ("master:5 ", "/var/lib/kubelet/plugins/x/nvidia/mps", False),
        ("shared:5 ", "/var/lib/kubelet/plugins/xy", False),
        ("shared:5 ", "/var/lib/kubelet/plugins/x y/nvidia", False),
        ("shared:5 ", "/elsewhere", False),
    ],
)
def test_what_is_mounted_is_seen_by_the_host_if_the_mount_around_it_is_shared(
    shared: str, folder: str, *, expected: bool
) -> None:
    assert is_shared(TABLE.format(shared=shared), folder) is expected


def test_a_folder_that_the_host_would_not_see_is_unsupported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = tmp_path / "mountinfo"
    table.write_text(TABLE.format(shared=""))
    monkeypatch.setattr(mounts, "_TABLE", str(table))
    with pytest.raises(Unsupported, match="needs mountPropagation: Bidirectional"):
        SharedMemory().check(Path("/var/lib/kubelet/plugins/x/nvidia/mps"))
    table.write_text(TABLE.format(shared="shared:1 "))
    SharedMemory().check(Path("/var/lib/kubelet/plugins/x/nvidia/mps"))


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "shm"
    folder.mkdir()
    yield folder
    SharedMemory().unmount("test", folder)


@pytest.mark.usefixtures("privileged")
def test_shared_memory_is_a_tmpfs_that_any_user_may_write(folder: Path) -> None:
    memory = SharedMemory()
    memory.mount("mps-daemon", folder)
    memory.mount("mps-daemon", folder)
    assert folder.is_mount()
    assert folder.stat().st_mode & 0o7777 == 0o1777
    (folder / "segment").write_bytes(b"x" * 100)
    memory.unmount("mps-daemon", folder)
    assert list(folder.iterdir()) == []
    memory.unmount("mps-daemon", folder)


@pytest.mark.usefixtures("privileged")
def test_what_cannot_be_mounted_is_a_failure_of_the_step(tmp_path: Path) -> None:
    with pytest.raises(StepFailed, match=r"step mps-daemon: cannot mount a tmpfs at .*: No such file or directory"):
        SharedMemory().mount("mps-daemon", tmp_path / "nothing")
