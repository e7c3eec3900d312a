"""`accel-dra inventory` as a person and a program use it."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import subprocess
import sys
import termios
import xml.etree.ElementTree as ET
from pathlib import Path

import msgspec
import pytest
import yaml
from click.testing import CliRunner, Result

from driver.cli.inventory import command
from driver.core import specification
from driver.model.errors import InvalidInput
from driver.model.passthrough import DRIVER
from driver.model.prepared import Phase, PreparedDevice, Record, Step
from driver.model.slices import Device
from driver.state import record_files
from tests.fakes.pci import Machine
from tests.fakes.processes import ending


def invoke(*arguments: str, node: str = "hgx-h100", env: dict[str, str] | None = None) -> Result:
    options = ["--vendor", "simulated", "--vendor-option", f"node={node}"]
    return CliRunner().invoke(command, [*options, *arguments], env=env, catch_exceptions=False)


def show(*arguments: str, node: str = "hgx-h100") -> str:
    result = invoke(*arguments, node=node)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_a_line_a_device_in_the_order_in_which_they_are_taken() -> None:
    head, *lines = show(node="a100-mig").splitlines()
    assert head.split() == ["DEVICE", "TYPE", "MODEL", "PROFILE", "MEMORY", "SM", "NUMA"]
    assert [line.split()[0] for line in lines[:11]] == [
        *(f"gpu-0000-07-00-0-1g-10gb-{place}" for place in range(7)),
        "gpu-0000-46-00-0-1g-10gb-6",
        "gpu-0000-46-00-0-2g-20gb-4",
        "gpu-0000-46-00-0-3g-40gb-0",
        "gpu-0000-c7-00-0",
    ]


def test_the_controllers_pool_is_shown_as_what_it_is() -> None:
    assert "Allocated by" not in show()
    text = show("--allocation-authority", "controller")
    assert "TAINTS" not in text, "a fence is no fault"
    assert text.endswith("with the taint accel-dra.dev/controller-only:NoSchedule.\n")
    document = json.loads(show("--allocation-authority", "controller", "-o", "json"))
    assert document["allocationAuthority"] == "controller"
    fence = [{"key": "accel-dra.dev/controller-only", "effect": "NoSchedule"}]
    assert [device["taints"] for device in document["devices"]] == [fence] * 8


@pytest.mark.parametrize("code", ["raise ZeroDivisionError('a defect')", "return None.accelerators"])
def test_a_vendor_that_breaks_is_one_sentence(code: str) -> None:
    start = f"""
import sys
from driver import vendors
from driver.__main__ import main
load = vendors.load
def broken(*arguments):
    vendor = load(*arguments)
    class Broken(type(vendor)):
        def snapshot(self):
            {code}
    vendor.__class__ = Broken
    return vendor
vendors.load = broken
sys.argv = ["accel-dra", "inventory", "--vendor", "simulated"]
main()
"""
    done = subprocess.run([sys.executable, "-c", start], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("Error: the vendor simulated is broken, it cannot say what is there: ")
    assert len(done.stderr.splitlines()) == 1


def test_columns_that_say_nothing_are_left_out() -> None:
    assert "INTERCONNECT" in show().splitlines()[0]
    assert "INTERCONNECT" not in show(node="l40s").splitlines()[0]


def test_what_is_not_published_is_said_with_its_reason() -> None:
    assert show(node="a100-mig").endswith(
        "Not published:\n  ✗ GPU 2 0000:85:00.0: it is in partition mode and has no partitions\n"
    )


def test_devices_for_virtual_machines_are_shown_as_the_kernel_allows_them(tmp_path: Path) -> None:
    machine = Machine(tmp_path / "sys").build("gpud", DRIVER)
    machine.add("0000:3b:00.0", "11")
    machine.add("0000:af:00.0", None)
    text = show("--passthrough", "--sys-root", str(machine.root), node="t4")
    names = ["gpu-0000-3b-00-0", "gpu-0000-af-00-0", "vfio-0000-3b-00-0"]
    assert [line.split()[0] for line in text.splitlines()[1:4]] == names
    assert "0000:af:00.0: it has no IOMMU group; the IOMMU must be on" in text
    assert "vfio" not in show("--sys-root", str(machine.root), node="t4")


def test_wide_adds_identities() -> None:
    head, first, *_ = show("-o", "wide", node="nvl72-tray").splitlines()
    assert {"FABRIC", "UUID", "PCIE"} <= set(head.split())
    assert "5c1f4c2e-9b1d-4a3b-8f67-2d0e5a7c9b31.32766" in first
    assert "GPU-" in first


@pytest.mark.parametrize(("form", "parse"), [("json", json.loads), ("yaml", yaml.safe_load)])
def test_documents_carry_devices_as_they_are_published(form: str, parse: object) -> None:
    assert callable(parse)
    document = parse(show("-o", form, node="a100-mig"))
    assert (document["vendor"], document["driverVersion"]) == ("simulated", "580.126.09")
    devices = msgspec.convert(document["devices"], list[Device])
    assert len(devices) == 11
    assert all(specification.check(device) == () for device in devices)
    assert document["omitted"] == [
        {"index": 2, "pciAddress": "0000:85:00.0", "reason": "it is in partition mode and has no partitions"}
    ]


def test_a_picture_for_the_terminal() -> None:
    drawn = show("--topology")
    assert "╭─ NUMA node 0 " in drawn
    assert "GPU 0-7: fully linked through 4 switches" in drawn
    assert "\x1b" not in drawn


@pytest.mark.parametrize("arguments", [("--topology", "-o", "svg"), ("-o", "svg")])
def test_a_picture_as_svg(arguments: tuple[str, ...]) -> None:
    assert ET.fromstring(show(*arguments)).tag.endswith("svg")


def test_a_picture_as_a_document() -> None:
    document = json.loads(show("--topology", "-o", "json"))
    assert [socket["name"] for socket in document["sockets"]] == ["NUMA node 0", "NUMA node 1"]


def test_a_picture_in_a_file_beside_the_table(tmp_path: Path) -> None:
    path = tmp_path / "node.svg"
    assert "gpu-0000-1b-00-0" in show("--svg", str(path))
    assert ET.fromstring(path.read_text()).tag.endswith("svg")


def test_a_picture_has_no_wide_form() -> None:
    with pytest.raises(InvalidInput, match="together with --topology"):
        invoke("--topology", "-o", "wide")


def test_the_environment_sets_what_the_plugin_reads_there_too() -> None:
    env = {"ACCEL_DRA_VENDOR": "simulated", "ACCEL_DRA_VENDOR_OPTIONS": "node=t4"}
    result = CliRunner().invoke(command, [], env=env, catch_exceptions=False)
    assert "Tesla T4" in result.stdout


def test_a_machine_without_devices_says_so(tmp_path: Path) -> None:
    path = tmp_path / "empty.json"
    path.write_text(json.dumps({"driverVersion": "1.0.0"}))
    assert show(node=str(path)) == "No devices to publish (vendor simulated).\n"


def test_without_a_driver_it_fails_in_a_clear_sentence(tmp_path: Path) -> None:
    result = invoke(node=str(tmp_path / "later.json"))
    assert result.exit_code == 1
    assert "later.json cannot be read: No such file or directory" in result.stderr
    assert "accel-dra doctor" in result.stderr
    assert result.stdout == ""


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "driver", "inventory", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_exit_codes_of_the_whole_command(tmp_path: Path) -> None:
    nvidia = run("--vendor", "nvidia", "--driver-root", str(tmp_path), "--dev-root", str(tmp_path))
    assert (nvidia.returncode, nvidia.stdout) == (1, "")
    assert str(tmp_path) in nvidia.stderr
    unknown = run("--vendor", "simulated", "--vendor-option", "nod=t4")
    assert (unknown.returncode, unknown.stdout) == (2, "")
    assert unknown.stderr == "accel-dra: vendor option: 'nod' is not allowed; allowed: health, node, seed\n"


def run_in_terminal(*arguments: str, columns: int) -> str:
    """Return what a person sees in a terminal of this width."""
    parent, child = pty.openpty()
    termios.tcsetwinsize(child, (40, columns))
    environment = {**os.environ, "TERM": "xterm-256color"}
    environment.pop("COLUMNS", None)
    process = subprocess.Popen(
        [sys.executable, "-m", "driver", "inventory", *arguments],
        stdin=child,
        stdout=child,
        stderr=child,
        env=environment,
    )
    os.close(child)
    with ending(process), os.fdopen(parent, "rb", buffering=0) as terminal:
        seen = b""
        with contextlib.suppress(OSError):  # the kernel's way to say that the other end was closed
            while piece := terminal.read(4096):
                seen += piece
        process.wait(30)
    assert process.returncode == 0
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", seen.decode()).replace("\r\n", "\n")


def test_in_a_narrow_terminal_nothing_is_cut() -> None:
    text = run_in_terminal("--vendor", "simulated", "--vendor-option", "node=hgx-h100-mig", columns=60)
    assert "gpu-0000-1b-00-0-1g-10gb-0" in text
    assert "…" not in text


def test_in_a_wide_terminal_sockets_stand_side_by_side() -> None:
    arguments = ("--vendor", "simulated", "--topology")
    side_by_side = re.compile("NUMA node 0 .*NUMA node 1")
    assert side_by_side.search(run_in_terminal(*arguments, columns=120))
    assert not side_by_side.search(run_in_terminal(*arguments, columns=80))


def test_shared_devices_are_shown_with_what_is_left_of_them(tmp_path: Path) -> None:
    def record(uid: str, memory: str, percent: int) -> None:
        consumed = {"accel-dra.dev/memory": memory, "accel-dra.dev/share": str(percent)}
        device = PreparedDevice(
            requests=("gpu",), pool="n", device="gpu-0000-1b-00-0", share_id=uid, consumed_capacity=consumed
        )
        prepared = Record(uid=uid, namespace="ns", name=uid, phase=Phase.PREPARED, boot_id="", devices=(device,))
        (tmp_path / "claims" / f"{uid}.json").write_bytes(record_files.encode(prepared))

    (tmp_path / "claims").mkdir()
    options = ("--shares", "MPS", "--state-dir", str(tmp_path))
    head, *lines = show(*options).splitlines()
    assert "SHARED BY" in head
    assert "LEFT" not in head, "nobody has a share yet"
    assert all("MPS" in line for line in lines)
    record("a", "20Gi", 25)
    record("b", "10Gi", 10)
    head, first, second, *_ = show(*options).splitlines()
    assert "LEFT" in head
    assert first.rstrip().endswith("memory 50839Mi, share 65")
    assert "memory" not in second
    document = json.loads(show(*options, "-o", "json"))
    assert document["left"] == {"gpu-0000-1b-00-0": {"accel-dra.dev/memory": "50839Mi", "accel-dra.dev/share": "65"}}
    assert "SHARED BY" not in show()


def hold(root: Path, uid: str, device: str, *steps: Step) -> None:
    """Write down that a claim holds a device."""
    held = PreparedDevice(requests=("gpu",), pool="", device=device)
    record = Record(uid=uid, namespace="ns", name=uid, phase=Phase.PREPARED, boot_id="", devices=(held,), steps=steps)
    (root / "claims").mkdir(exist_ok=True)
    (root / "claims" / f"{uid}.json").write_bytes(record_files.encode(record))


def test_partitions_that_could_be_made_are_shown_in_dynamic_mode() -> None:
    profiles = ("--partitions", "dynamic", "--partition-profiles", "1g.10gb, 3g.40gb")
    lines = show(*profiles, node="hgx-h100").splitlines()[1:]
    assert len(lines) == 8 * (7 + 2 + 1)
    assert [line.split()[0] for line in lines[:2]] == ["gpu-0000-1b-00-0-1g-10gb-0", "gpu-0000-1b-00-0-1g-10gb-1"]
    document = json.loads(show(*profiles, "-o", "json"))
    assert len(document["sharedCounters"]) == 8
    assert document["devices"][0]["consumesCounters"][0]["counterSet"] == "gpu-0000-1b-00-0"


def test_why_something_is_not_offered_is_shown_under_the_devices() -> None:
    text = show("--partitions", "dynamic", node="hgx-a100-mig")
    assert "✗ GPU 0-7: it is in partition mode and cannot leave it: " in text
    text = show("--partitions", "off", node="hgx-a100-mig")
    assert "it is in partition mode, and this node offers whole devices only (partitions: off)" in text
    text = show("--partitions", "dynamic", "--partition-profiles", "1g.1Ogb")
    assert "This node: no device here has the profile '1g.1Ogb' (1g.10gb was probably meant)" in text


def test_the_state_of_what_claims_have_is_shown_as_far_as_records_can_be_read(tmp_path: Path) -> None:
    options = ("--partitions", "dynamic", "--state-dir", str(tmp_path))
    assert "STATE" not in show(*options).splitlines()[0], "everything is free"
    hold(tmp_path, "a", "gpu-0000-1b-00-0-1g-10gb-6")
    hold(tmp_path, "b", "gpu-0000-43-00-0")
    (tmp_path / "claims" / "c.json").write_text("no record")
    head, *lines = show(*options).splitlines()
    assert "STATE" in head
    states = {line.split()[0]: line.split()[-1] for line in lines}
    assert states["gpu-0000-1b-00-0"] == states["gpu-0000-1b-00-0-2g-20gb-4"] == "partitioned"
    assert states["gpu-0000-43-00-0"] == "whole"
    document = json.loads(show(*options, "-o", "json"))
    assert document["states"]["gpu-0000-1b-00-0"] == "partitioned"
    assert document["states"]["gpu-0000-52-00-0"] == "free"
    assert (tmp_path / "claims" / "c.json").exists(), "looking changes nothing"
