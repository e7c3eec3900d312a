"""`accel-dra inventory`: what this machine would publish, why the rest is not, and a picture of how it is wired.

It asks the vendor once, changes nothing and needs no cluster. Exit code 1 with one sentence if there is no driver.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import click
import msgspec
import yaml
from rich.console import Console
from rich.table import Table
from rich.text import Text

from driver import settings as settings_module
from driver import vendors
from driver.cli.options import settings_options
from driver.core import admitting, fencing, inventory, naming, remainders, topology, topology_svg, topology_text
from driver.core.fencing import Authority
from driver.core.states import State
from driver.model import quantities, vocabulary
from driver.model.devices import Entry, Inventory
from driver.model.errors import DriverError, InvalidInput, Unavailable
from driver.model.prepared import PreparedDevice, Record
from driver.model.quantities import Quantity
from driver.node import surveying
from driver.settings import Settings
from driver.state import record_files

FORMATS: Final = ("table", "wide", "json", "yaml", "svg")
PIPE_WIDTH: Final = 120
"""Columns of a picture that does not go to a terminal."""
ENDLESS: Final = 10_000
"""Columns of a table: a name that is cut is no name, so a terminal that is too narrow wraps the line."""
SECONDS_BEFORE_PROGRESS: Final = 1.0

Cell = Callable[[Entry], str]


@click.command()
@settings_options(
    "vendor",
    "vendor_options",
    "driver_root",
    "driver_root_mount",
    "dev_root",
    "dev_root_mount",
    "sys_root",
    "proc_root",
    "allocation_authority",
    "partitions",
    "partition_profiles",
    "shares",
    "driver_name",
    "kubelet_plugins_dir",
    "state_dir",
    "passthrough",
)
@click.option("-o", "--output", "form", type=click.Choice(FORMATS), default="table", show_default=True, help="Format.")
@click.option("--topology", "picture", is_flag=True, help="Draw sockets, PCIe roots, devices and links.")
@click.option("--svg", type=click.Path(dir_okay=False, writable=True), help="Also write the picture to this SVG file.")
def command(settings: Settings, form: str, picture: bool, svg: str | None) -> None:  # noqa: FBT001 - click passes flags
    """Show the accelerators of this machine, as they are published, and their links.

    \b
    accel-dra inventory                      a line for each device, in the order in which they are taken
    accel-dra inventory -o json              the devices exactly as the ResourceSlices carry them
    accel-dra inventory --topology           a picture for the terminal
    accel-dra inventory --topology -o svg    the same as SVG
    """  # noqa: D301 - click's own mark for a paragraph that is not to be re-wrapped
    if picture and form == "wide":
        raise InvalidInput("output", form, "table, json, yaml or svg together with --topology")
    found = look(settings)
    taken = see_claims(found, record_files.peek(Path(settings.records_root)))
    authority = Authority(settings.allocation_authority)
    if svg:
        Path(svg).write_text(topology_svg.draw(topology.describe(found)), encoding="utf-8")
    if form == "svg":
        click.echo(topology_svg.draw(topology.describe(found)), nl=False)
    elif form in ("json", "yaml"):
        click.echo(_encode(topology.describe(found) if picture else describe(found, authority, taken), form), nl=False)
    elif picture:
        _print_picture(found)
    else:
        columns = WIDE if form == "wide" else COLUMNS
        _print_table(found, {**columns, **taken.columns})
        _print_authority(authority)


def look(settings: Settings) -> Inventory:
    """Ask the vendor's hardware. Raises click's own error, exit code 1, without a driver or if the vendor breaks."""
    vendor = vendors.load(settings.vendor, settings.roots, settings_module.vendor_options(settings))
    with _progress(f"Asking the {settings.vendor} driver…"):
        try:
            snapshot, offer = surveying.look_once(settings, vendor)
            return inventory.build(snapshot, None, offer)
        except Unavailable as error:
            hint = "`accel-dra doctor` says what is missing; `--vendor simulated` shows an example machine"
            raise click.ClickException(f"{error}\n{hint}") from error
        except DriverError:
            raise
        except Exception as error:
            text = f"the vendor {vendor.name} is broken, it cannot say what is there: {vendors.describe(error)}"
            raise click.ClickException(text) from error


@dataclass(frozen=True, slots=True)
class Taken:
    """What claims have made of the hardware, as far as their records can be read."""

    left: Mapping[str, Mapping[str, Quantity]] = field(default_factory=dict)
    """What is left of the devices of which claims have shares, by device and capacity."""
    states: Mapping[str, State] = field(default_factory=dict)
    """The state of each accelerator, by the name of its whole device. Nobody watches for faults here."""

    @property
    def columns(self) -> dict[str, Cell]:
        """What a table says of it; nothing of a device that is free."""
        return {
            "STATE": lambda entry: self._spell_state(naming.name_accelerator(entry.accelerator)),
            "LEFT": lambda entry: remainders.spell(self.left.get(entry.name, {})),
        }

    def _spell_state(self, name: str) -> str:
        state = self.states.get(name, State.FREE)
        return "" if state is State.FREE else state.value


def see_claims(found: Inventory, records: Iterable[Record]) -> Taken:
    """Return what the records of claims say of this hardware."""
    known = tuple(records)
    states = admitting.survey(found, (device for record in known for device in record.devices))
    return Taken(find_left(found, known), states)


def find_left(found: Inventory, records: Iterable[Record]) -> dict[str, dict[str, Quantity]]:
    """Return what is left of the devices of which claims have shares, by device and capacity."""
    held: dict[str, list[PreparedDevice]] = {}
    for record in records:
        for device in record.devices:
            if device.share_id is not None:
                held.setdefault(device.device, []).append(device)
    left = {
        entry.name: remainders.find_unprepared(entry.device.capacity, held[entry.name])
        for entry in found.entries
        if entry.name in held
    }
    return {name: amounts for name, amounts in left.items() if amounts}


def describe(
    found: Inventory,
    authority: Authority = Authority.SCHEDULER,
    taken: Taken | None = None,
) -> dict[str, object]:
    """Return the inventory as a document: devices in the form of resource.k8s.io/v1, and what is left out."""
    snapshot, taken = found.snapshot, taken or Taken()
    devices = fencing.fence((entry.device for entry in found.entries), authority)
    return {
        "vocabulary": vocabulary.SPEC_VERSION,
        "vendor": snapshot.vendor,
        "driverVersion": snapshot.driver_version,
        "runtimeVersion": snapshot.runtime_version,
        "managementVersion": snapshot.management_version,
        "allocationAuthority": authority.value,
        "devices": msgspec.to_builtins(devices),
        "omitted": [
            {
                "index": failure.index,
                "pciAddress": failure.pci_address,
                "reason": failure.reason,
                **({"part": failure.part} if failure.part else {}),
            }
            for failure in found.omitted
        ],
        "sharedCounters": msgspec.to_builtins(found.counter_sets),
        "states": {name: state.value for name, state in taken.states.items()},
        "left": {
            device: {name: str(amount) for name, amount in amounts.items()} for device, amounts in taken.left.items()
        },
    }


def _encode(document: object, form: str) -> str:
    plain = msgspec.to_builtins(document)
    if form == "yaml":
        return str(yaml.safe_dump(plain, sort_keys=False, allow_unicode=True))
    return msgspec.json.format(msgspec.json.encode(plain), indent=2).decode() + "\n"


@contextlib.contextmanager
def _progress(text: str) -> Iterator[None]:
    """Loading a driver can take seconds on a machine that was idle; after the first, say so to whoever is watching."""
    console = Console(stderr=True)
    status = console.status(text)
    timer = threading.Timer(SECONDS_BEFORE_PROGRESS, status.start)
    if console.is_terminal:
        timer.start()
    try:
        yield
    finally:
        timer.cancel()
        if console.is_terminal:
            timer.join()
            status.stop()


def _attribute(name: str) -> Cell:
    def read(entry: Entry) -> str:
        attribute = entry.device.attributes.get(name)
        if attribute is None:
            return ""
        values = (attribute.string, attribute.version, attribute.int_)
        return next((str(value) for value in values if value is not None), "")

    return read


def _amount(name: str) -> Cell:
    def read(entry: Entry) -> str:
        capacity = entry.device.capacity.get(name)
        return capacity.value if capacity else ""

    return read


def _memory(entry: Entry) -> str:
    capacity = entry.device.capacity.get(vocabulary.MEMORY)
    return topology.print_memory(quantities.parse(capacity.value).rounded_up) if capacity else ""


def _taints(entry: Entry) -> str:
    return ", ".join(f"{taint.key.rpartition('/')[2]}: {taint.value}" for taint in entry.device.taints)


COLUMNS: Final[dict[str, Cell]] = {
    "DEVICE": lambda entry: entry.name,
    "TYPE": _attribute(vocabulary.TYPE),
    "MODEL": _attribute(vocabulary.MODEL),
    "PROFILE": _attribute(vocabulary.PROFILE),
    "MEMORY": _memory,
    "SM": _amount(vocabulary.MULTIPROCESSORS),
    "NUMA": _attribute(vocabulary.NUMA_NODE),
    "INTERCONNECT": _attribute(vocabulary.INTERCONNECT_DOMAIN),
    "GB/S": _attribute(vocabulary.INTERCONNECT_GBPS),
    "SHARED BY": _attribute(vocabulary.SHARING),
    "TAINTS": _taints,
}
WIDE: Final[dict[str, Cell]] = {
    **COLUMNS,
    "INDEX": _attribute(vocabulary.INDEX),
    "PLACEMENT": _attribute(vocabulary.PLACEMENT),
    "PCI": _attribute(vocabulary.PCI_BUS_ID),
    "PCIE ROOT": _attribute(vocabulary.PCIE_ROOT),
    "ARCHITECTURE": _attribute(vocabulary.ARCHITECTURE),
    "COMPUTE": _attribute(vocabulary.COMPUTE_CAPABILITY),
    "DRIVER": _attribute(vocabulary.DRIVER_VERSION_TEXT),
    "RUNTIME": _attribute(vocabulary.RUNTIME_VERSION),
    "FABRIC": _attribute(vocabulary.FABRIC_DOMAIN),
    "UUID": _attribute(vocabulary.UUID),
}
_RIGHT: Final = {"MEMORY", "SM", "NUMA", "GB/S", "INDEX", "PLACEMENT"}


def _print_table(found: Inventory, columns: dict[str, Cell]) -> None:
    """Print a line a device, without the columns that say nothing on this machine."""
    console = Console(highlight=False, width=ENDLESS)
    if not found.entries:
        console.print(f"No devices to publish (vendor {found.snapshot.vendor}).")
    else:
        cells = {title: [read(entry) for entry in found.entries] for title, read in columns.items()}
        said = {title: texts for title, texts in cells.items() if any(texts)}
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
        for title in said:
            table.add_column(title, justify="right" if title in _RIGHT else "left", no_wrap=True)
        for row in zip(*said.values(), strict=True):
            table.add_row(*(Text(text) for text in row))
        console.print(table, crop=False, overflow="ignore")
    if found.omitted:
        console.print("\nNot published:", style="bold")
        for text in topology.describe(found).missing:
            console.print(Text(f"  ✗ {text}", style="red"), soft_wrap=True)


def _print_authority(authority: Authority) -> None:
    """Say who allocates the devices where that is not kube-scheduler, as it is for other drivers."""
    if authority is Authority.CONTROLLER:
        taint = f"{fencing.FENCE.key}:{fencing.FENCE.effect}"
        click.echo(f"\nAllocated by {authority.spoken} alone: every device is published with the taint {taint}.")


def _print_picture(found: Inventory) -> None:
    console = Console(highlight=False, width=None if sys.stdout.isatty() else PIPE_WIDTH)
    text = Text(topology_text.draw(topology.describe(found), console.width).rstrip("\n"))
    text.highlight_regex(r"[─│╭╮╰╯├┬║═╔╗╚╝╩·]+", "dim")
    text.highlight_regex(r"GPU \d+(-\d+)?(, \d+(-\d+)?)*|NUMA node \w+|\A.*", "bold")
    text.highlight_regex(r"✗.*|\bunhealthy\b", "red")
    text.highlight_regex(r"\bdegraded\b", "yellow")
    console.print(text, soft_wrap=True)
