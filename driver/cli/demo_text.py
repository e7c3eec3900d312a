"""What `accel-dra demo` says: nodes, one block a workload, a summary.

Called by `demo_flow`; prints and decides nothing.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.text import Text

from driver.core import fencing
from driver.core.fencing import Authority
from driver.model import vocabulary
from driver.model.published import PublishedDevice
from driver.simulation.reports import Got, Report, View
from driver.simulation.resources import Slice

_INDENT: Final = 2
_GAP: Final = 2
_LABEL: Final = 6
_NARROWEST: Final = 20
"""Columns that the last column has at least, on whatever terminal."""
_SHORT: Final = 9
_MANY: Final = 4
"""Devices and containers of which each gets a line of its own."""
_READABLE: Final = (
    (re.compile(r'device\.(?:attributes|capacity)\["[^"]+"\]\.\??(\w+)(?:\.orValue\([^()]*(?:\([^()]*\))?\))?'), r"\1"),
    (re.compile(r'\.isGreaterThan\(quantity\("([^"]+)"\)\)'), r" > \1"),
    (re.compile(r'\.isLessThan\(quantity\("([^"]+)"\)\)'), r" < \1"),
    (re.compile(r'\.compareTo\(quantity\("([^"]+)"\)\) (==|!=|<=|>=|<|>) 0'), r" \2 \1"),
)
"""How a person would write what selectors say in CEL; for display only."""


def show_nodes(console: Console, nodes: Mapping[str, Sequence[Slice]]) -> None:
    """List the nodes and what is published about each."""
    head = (
        f"{len(nodes)} nodes: who allocates their devices, and which they have. "
        "Plugins and controller are the real ones."
    )
    console.print(Text(head, style="bold"))
    rows: list[tuple[Text, ...]] = []
    for name, slices in nodes.items():
        devices = [device for each in slices for device in each.spec.devices]
        rows.append((Text(name, style="cyan"), Text(_name_authority(devices), style="dim"), Text(_summarize(devices))))
    _print_rows(console, rows)


def _print_rows(console: Console, rows: Sequence[Sequence[Text]]) -> None:
    """Print columns, of which the last is wrapped, and an empty line; no line ends with blanks, so it can be copied."""
    widths = [max(cell.cell_len for cell in column) + _GAP for column in zip(*rows, strict=True)]
    for *heads, last in rows:
        head = Text(" " * _INDENT)
        for cell, width in zip(heads, widths, strict=False):
            head.append_text(cell).append(" " * (width - cell.cell_len))
        for position, line in enumerate(last.wrap(console, max(console.width - head.cell_len, _NARROWEST)) or [Text()]):
            whole = Text.assemble(Text(" " * head.cell_len) if position else head, line)
            whole.rstrip()
            console.print(whole, soft_wrap=True)
    console.print()


def _summarize(devices: Sequence[PublishedDevice]) -> str:
    there = [device for device in devices if not _is_possible(device)]
    kinds = Counter((_read(device, vocabulary.MODEL), _read(device, vocabulary.PROFILE)) for device in there)
    domains = Counter(filter(None, (_read(device, vocabulary.INTERCONNECT_DOMAIN) for device in devices)))
    parts = [f"{count} {model}{f' parts {profile}' if profile else ''}" for (model, profile), count in kinds.items()]
    parts += [f"{count} of them linked" for count in domains.values()]
    possible = dict.fromkeys(_read(device, vocabulary.PROFILE) for device in devices if _is_possible(device))
    shared = dict.fromkeys(filter(None, (_read(device, vocabulary.SHARING) for device in devices)))
    return ", ".join(parts) + _list("parts on demand", possible) + _list("shared through", shared)


def _list(what: str, names: Iterable[str]) -> str:
    listed = ", ".join(names)
    return f"; {what}: {listed}" if listed else ""


def _is_possible(device: PublishedDevice) -> bool:
    """Say whether it is a partition that is made when it is given to somebody."""
    return bool(_read(device, vocabulary.PROFILE)) and not _read(device, vocabulary.UUID)


def _name_authority(devices: Sequence[PublishedDevice]) -> str:
    """Return who allocates the devices of a node."""
    authority = fencing.read_authority(devices)
    return "kube-scheduler" if authority is Authority.SCHEDULER else authority.value if authority else ""


def _read(device: PublishedDevice, name: str) -> str:
    attribute = device.attributes.get(name)
    return attribute.string or "" if attribute else ""


def show_report(console: Console, report: Report) -> None:
    """Print what one workload asked for, what it got, what its containers see, and whether that was promised."""
    mark = Text("✗ ", style="bold red") if report.problem else Text("✓ ", style="bold green")
    state = (
        f"running after {report.seconds:.2f} s" if report.phase == "Running" else f"{report.phase.lower()}, as promised"
    )
    verdict = Text(report.problem or state, style="red" if report.problem else "dim")
    console.print(Text.assemble(mark, (report.title, "bold"), f" ({report.name}): ", verdict))
    _print_rows(console, [(Text(label.ljust(_LABEL), style="dim"), text) for label, text in _lines(report)])


def _lines(report: Report) -> list[tuple[str, Text]]:
    lines = [("asked", Text(make_readable(reason))) for reason in report.reasons]
    said = report.message.partition(": ")[2]
    if report.phase != "Running" and said != report.explanation:
        lines += [("waits", Text(reason)) for reason in said.split("; ")]
    if report.explanation:
        lines += [("why", Text(reason)) for reason in report.explanation.split("; ")]
    devices = {(got.node, got.device.name): got for view in report.views for got in view.got}
    got = [*devices.values()]
    lines += [("got", text) for text in (map(_show_device, got) if len(got) <= _MANY else _show_by_node(got))]
    lines += [("sees", _show_view(view)) for view in report.views[:_MANY]]
    return lines


def _show_by_node(devices: Sequence[Got]) -> Iterator[Text]:
    """Many devices in a line a node."""
    for node in dict.fromkeys(got.node for got in devices):
        here = [got for got in devices if got.node == node]
        yield Text.assemble((node, "cyan"), f" {_summarize([got.device for got in here])}")


def make_readable(reason: str) -> str:
    """Return a reason with its selectors as a person would write them."""
    for pattern, replacement in _READABLE:
        reason = pattern.sub(replacement, reason)
    return reason


def _show_device(got: Got) -> Text:
    facts = [got.text(vocabulary.MODEL), got.text(vocabulary.PROFILE), got.memory]
    if got.share:
        facts.append(f"takes {got.share.replace(', ', ' and ')}")
    if numa := got.text(vocabulary.NUMA_NODE):
        facts.append(f"NUMA {numa}")
    if domain := got.text(vocabulary.INTERCONNECT_DOMAIN):
        facts.append(f"link {domain}")
    return Text.assemble((got.node, "cyan"), " ", (got.device.name, "cyan"), f" {', '.join(filter(None, facts))}")


def _show_view(view: View) -> Text:
    if not view.got:
        return Text.assemble((view.name, "bold"), ": nothing")
    nodes = [node.path for node in view.contents.device_nodes]
    variables = [f"{name}={_shorten(value)}" for name, value in view.contents.env.items()]
    mounts = f"{len(view.contents.mounts)} mount{'s' if len(view.contents.mounts) != 1 else ''}"
    return Text.assemble((view.name, "bold"), f": {' '.join([*nodes, *variables])}, {mounts}")


def _shorten(value: str) -> str:
    return value if len(value) <= _SHORT + 1 else f"{value[:_SHORT]}…"


def show_summary(console: Console, reports: Sequence[Report], seconds: float) -> None:
    """Print how many workloads behaved as promised."""
    good = sum(not report.problem for report in reports)
    style = "bold green" if good == len(reports) else "bold red"
    console.print(Text(f"{good} of {len(reports)} workloads behaved as promised, in {seconds:.1f} s.", style=style))


def show_access(console: Console, kubeconfig: Path, examples: Path, namespace: str, reports: Sequence[Report]) -> None:
    """Print how to reach the cluster with kubectl, and where to look first: at a pod that waits, if one does."""
    waiting = next((f"pod {report.name}" for report in reports if report.phase == "Pending"), "pods")
    lines = (
        f"export KUBECONFIG={kubeconfig}",
        "kubectl get nodes,resourceslices,deviceclasses",
        f"kubectl -n {namespace} get pods,resourceclaims",
        f"kubectl -n {namespace} describe {waiting}",
        *([f"accel-dra explain {waiting} -n {namespace}"] if waiting != "pods" else []),
        f"accel-dra explain -f {examples / 'topology-pair'}",
        f"kubectl apply -f {examples / 'shared-gpu'}",
        "kubectl get pods -w",
    )
    console.print(Text("\nThe cluster keeps running; Ctrl-C ends it. In another terminal:", style="bold"))
    for line in lines:
        console.print(Text(f"  {line}"), soft_wrap=True)
