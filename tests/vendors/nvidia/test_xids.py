"""Lines of the kernel's log about XIDs: what they are about, and how bad it is."""

from __future__ import annotations

import pytest

from driver.model.health import Severity
from driver.vendors.nvidia import xids
from driver.vendors.nvidia.xids import Xid

BAD, SHOWN = Severity.UNHEALTHY, Severity.DEGRADED


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (
            "NVRM: Xid (PCI:0000:1b:00): 79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus.",
            Xid("0000:1b:00.0", 79, "pid='<unknown>', name=<unknown>, GPU has fallen off the bus."),
        ),
        (
            "NVRM: Xid (PCI:0000:04:00): 79, GPU has fallen off the bus.",
            Xid("0000:04:00.0", 79, "GPU has fallen off the bus."),
        ),
        ("NVRM: Xid (PCI:0000:b3:00.0): 79, gone", Xid("0000:b3:00.0", 79, "gone")),
        ("NVRM: Xid (0000:03:00): 14, Channel 00000001", Xid("0000:03:00.0", 14, "Channel 00000001")),
        ("NVRM: Xid (PCI:10000:E1:00): 48, DBE", Xid("10000:e1:00.0", 48, "DBE")),
        ("NVRM: Xid (PCI:0000:1b:00): 62", Xid("0000:1b:00.0", 62, "")),
        (
            "NVRM: Xid (PCI:0000:07:00 GPU-I:05): 94, pid=7, name=python, Contained: SM (0x1). RST: No, D-RST: No",
            Xid("0000:07:00.0", 94, "pid=7, name=python, Contained: SM (0x1). RST: No, D-RST: No", 5),
        ),
        ("NVRM: Xid (PCI:0000:07:00 GPU-I:11 GPU-CI:02): 48, x", Xid("0000:07:00.0", 48, "x", 11, 2)),
        ("NVRM: GPU at PCI:0000:1b:00: GPU-299fe279-1c52-2255-d4ba-07d7bd2861d9", None),
        ("nvidia-nvswitch0: SXid (PCI:0000:ca:00.0): 19077, Non-fatal, Link 20", None),
        ("NVRM: Xid (PCI:0000:1b): 79, no such place", None),
        ("NVRM: Xid (PCI:0000:1b:00): many, x", None),
        ("", None),
    ],
)
def test_a_line_says_which_gpu_and_which_instance(message: str, expected: Xid | None) -> None:
    assert xids.parse(message) == expected


@pytest.mark.parametrize("number", [13, 31, 43, 45, 68, 109])
def test_a_fault_of_a_program_is_none_of_the_gpu(number: int) -> None:
    assert xids.judge(Xid("0000:1b:00.0", number, "pid=7, name=python")) is None


@pytest.mark.parametrize(
    ("number", "text", "severity"),
    [
        (48, "DBE (double bit error)", BAD),
        (79, "GPU has fallen off the bus.", BAD),
        (95, "Uncontained", BAD),
        (119, "Timeout after 6s of waiting for RPC response from GSP", BAD),
        (154, "GPU recovery action changed from 0x0 (None) to 0x1 (GPU Reset Required)", BAD),
        (149, "NETIR Fatal XC0 i0 Link -1", BAD),
        (145, "RLW_RXPIPE Nonfatal XC0 i0 Link 13", SHOWN),
        (63, "Row remapping", SHOWN),
        (94, "Contained", SHOWN),
        (4711, "whatever comes", SHOWN),
    ],
)
def test_how_bad_it_is(number: int, text: str, severity: Severity) -> None:
    assert xids.judge(Xid("0000:1b:00.0", number, text)) is severity


def test_the_driver_says_itself_when_nothing_has_to_be_done_any_more() -> None:
    over = "GPU recovery action changed from 0x1 (GPU Reset Required) to 0x0 (None)"
    assert Xid("0000:1b:00.0", 154, over).recovered
    assert not Xid(
        "0000:1b:00.0", 154, "GPU recovery action changed from 0x0 (None) to 0x2 (Node Reboot Required)"
    ).recovered
    assert not Xid("0000:1b:00.0", 79, "to 0x0 (None)").recovered


@pytest.mark.parametrize(
    ("number", "instance", "whole"), [(79, 5, True), (94, 5, False), (94, None, True), (154, 5, True)]
)
def test_some_faults_strike_the_whole_gpu_whoever_met_them(number: int, instance: int | None, whole: bool) -> None:
    assert Xid("0000:1b:00.0", number, "", instance).whole is whole
