"""What each example must lead to, beside the example's own words. A new example needs a promise here.

Called by `workloads`: the demo ends with success only if every workload behaved as promised, and the tests run every
folder there is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from driver.model import vocabulary
from driver.simulation.reports import Report, View

Check = Callable[[Report], str]


def _running(report: Report, **counts: int) -> str:
    """Return what is wrong about a pod that must run with so many devices in each container."""
    if report.phase != "Running":
        return f"the pod is {report.phase}: {report.message}"
    for name, count in counts.items():
        view = report.view(name)
        if len(view.got) != count:
            return f"container {name} has {len(view.got)} devices instead of {count}"
        if bool(view.contents.device_nodes) != bool(count):
            return f"container {name} has {len(view.contents.device_nodes)} device nodes for {count} devices"
    return ""


def _same(report: Report, attribute: str) -> str:
    values = {got.text(attribute) for view in report.views for got in view.got}
    return "" if len(values) == 1 and values != {""} else f"{attribute} differs: {sorted(values)}"


def _check_shared(report: Report) -> str:
    if problem := _running(report, server=1, profiler=1, logger=0):
        return problem
    return "" if report.view("server").names == report.view("profiler").names else "the containers have different GPUs"


def _check_two_requests(report: Report) -> str:
    if problem := _running(report, prefill=1, decode=1) or _same(report, vocabulary.INTERCONNECT_DOMAIN):
        return problem
    return "both containers have the same GPU" if report.view("prefill").names == report.view("decode").names else ""


def _check_partition(report: Report) -> str:
    if problem := _running(report, main=1):
        return problem
    profile = report.view("main").got[0].text(vocabulary.PROFILE)
    return "" if profile == "1g.10gb" else f"the profile is {profile!r}"


def _check_profiles(report: Report) -> str:
    if problem := _running(report, model=1, helper=1) or _same(report, vocabulary.PARENT_UUID):
        return problem
    profiles = [report.view(name).got[0].text(vocabulary.PROFILE) for name in ("model", "helper")]
    return "" if profiles == ["3g.40gb", "1g.10gb"] else f"the profiles are {' and '.join(profiles)}"


def _check_memory(report: Report) -> str:
    if problem := _running(report, main=1):
        return problem
    got = report.view("main").got[0]
    return "" if 15 <= float(got.memory.partition(" ")[0]) <= 24 else f"the partition has {got.memory}"


def _check_mixed(report: Report) -> str:
    if problem := _running(report, train=1, evaluate=1, notebook=1):
        return problem
    views = [report.view(name) for name in ("train", "evaluate", "notebook")]
    kinds = [view.got[0].text(vocabulary.TYPE) for view in views]
    if kinds != [vocabulary.TYPE_GPU, vocabulary.TYPE_PARTITION, vocabulary.TYPE_GPU]:
        return f"the devices are of type {', '.join(kinds)}"
    if len({view.got[0].text(vocabulary.PCI_BUS_ID) for view in views}) != len(views):
        return "two containers are on one GPU"
    limited = [view.name for view in views if "ACCEL_DRA_SHARE_ENFORCED" in view.contents.env]
    return "" if limited == ["notebook"] else f"limited to a share: {', '.join(limited) or 'nobody'}"


def _check_turns(report: Report) -> str:
    return _running_together(report, "time-slicing-0/main", "time-slicing-1/main")


def _check_limits(report: Report) -> str:
    if problem := _running_together(report, "server", "batch"):
        return problem
    lost = [view.name for view in report.views if not _find_variable(view, "_MPS_PIPE_DIRECTORY")]
    return f"without a way to the MPS daemon: {', '.join(lost)}" if lost else ""


def _check_shares(report: Report) -> str:
    if problem := _running_together(report, "shares-0/main", "shares-1/main"):
        return problem
    for view in report.views:
        if view.contents.env.get("ACCEL_DRA_SHARE_ENFORCED") != "true":
            return f"nothing says that the share of {view.name} is enforced"
        if _find_variable(view, "_MPS_ACTIVE_THREAD_PERCENTAGE") != "25":
            return f"{view.name} is not limited to a quarter of the GPU"
    return ""


def _running_together(report: Report, *names: str) -> str:
    """Return what is wrong about containers that must have one device, the same."""
    if problem := _running(report, **dict.fromkeys(names, 1)):
        return problem
    devices = {device for name in names for device in report.view(name).names}
    return "" if len(devices) == 1 else "the containers have different GPUs"


def _find_variable(view: View, end: str) -> str:
    """Return the value of the first variable with this end; what stands before it is the vendor's name."""
    return next((value for name, value in view.contents.env.items() if name.endswith(end)), "")


def _check_nearby(report: Report) -> str:
    if problem := _running(report, main=2) or _same(report, vocabulary.NUMA_NODE):
        return problem
    drivers = {got.driver for got in report.view("main").got}
    return _same(report, vocabulary.PCIE_ROOT) if len(drivers) == 2 else f"the devices are of {drivers}"


def _check_group(report: Report) -> str:
    counts = {view.name: 4 for view in report.views}
    if problem := _running(report, **counts) or _same(report, vocabulary.FABRIC_DOMAIN):
        return problem
    nodes = {got.node for view in report.views for got in view.got}
    return "" if len(nodes) == 4 else f"the group is on {len(nodes)} nodes"


def _check_unsatisfiable(report: Report) -> str:
    if report.phase != "Pending":
        return f"the pod is {report.phase}, though no device can satisfy its claim"
    if "no node can give request" not in report.message:
        return f"nothing says why: {report.message!r}"
    return "" if "500Gi" in report.explanation else f"the controller does not say why: {report.explanation!r}"


CHECKS: Final[Mapping[str, Check]] = {
    "single-gpu": lambda report: _running(report, main=1),
    "nvlink-pair": lambda report: _running(report, main=2) or _same(report, vocabulary.INTERCONNECT_DOMAIN),
    "partition": _check_partition,
    "mig-by-profile": _check_profiles,
    "mig-by-memory": _check_memory,
    "mixed-pod": _check_mixed,
    "time-slicing": _check_turns,
    "mps-limits": _check_limits,
    "shares": _check_shares,
    "first-available": lambda report: _running(report, main=1),
    "shared-gpu": _check_shared,
    "two-requests": _check_two_requests,
    "extended-resource": lambda report: _running(report, main=1),
    "same-numa-node": lambda report: _running(report, main=2) or _same(report, vocabulary.NUMA_NODE),
    "topology-pair": lambda report: _running(report, main=2) or _same(report, vocabulary.INTERCONNECT_DOMAIN),
    "gpu-with-nic": _check_nearby,
    "node-group": _check_group,
    "unsatisfiable": _check_unsatisfiable,
}
