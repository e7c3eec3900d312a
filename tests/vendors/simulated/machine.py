"""Machines of this vendor for the contract suite: every node that ships with it, and one whose file can change."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from driver import vendors
from driver.contract import Vendor
from tests.vendors.machines import Admin, Killed, Machine, make_roots

NAME = Path(__file__).parent.name
DATA = Path(vendors.__file__).parent / NAME / "data"
NODES = sorted(path.stem for path in (DATA / "nodes").glob("*.json"))


def machines(folder: Path) -> Sequence[Machine]:
    """Return the shipped nodes, and copies of two of them that can break."""
    changing = [folder / "whole.json", folder / "parts.json"]
    for path, node in zip(changing, ("hgx-h100", "a100-mig"), strict=True):
        path.write_bytes((DATA / "nodes" / f"{node}.json").read_bytes())
    return (
        *(_machine(folder / node, node) for node in NODES),
        *(
            replace(_machine(folder, str(path)), break_one=partial(_break_first, path), take_away=path.unlink)
            for path in changing
        ),
    )


def _machine(folder: Path, node: str) -> Machine:
    create = _creates(folder, node)
    admin = Admin(partial(_create, create), partial(_destroy, create), partial(_occupy, create))
    return Machine(Path(node).stem, create, admin=admin, interrupt=_interrupt)


def _creates(folder: Path, node: str) -> Callable[[Mapping[str, str]], Vendor]:
    return lambda options: vendors.load(NAME, make_roots(folder), {"node": node, **options})


def _break_first(path: Path) -> None:
    node = json.loads(path.read_text())
    node["devices"][0]["failure"] = "it fell off the bus"
    path.write_text(json.dumps(node))


def _interrupt(vendor: Vendor, changes: int) -> None:
    left = iter(range(changes))

    def count(call: str) -> None:
        if next(left, None) is None:
            raise Killed(call)

    _get_instances(vendor).before_change = count


def _create(create: Callable[[Mapping[str, str]], Vendor], address: str, profile: str, placement: int) -> str:
    vendor = create({})
    chip = _get_chips(vendor)[address]
    shape = chip.find_profile(profile)
    with _get_instances(vendor).open(chip) as gpu:
        gpu.switch_mode(enabled=True)
        return str(gpu.create_compute_instance(gpu.create_gpu_instance(shape, placement)))


def _destroy(create: Callable[[Mapping[str, str]], Vendor], identity: str) -> None:
    with _open(create, identity) as (gpu, number):
        gpu.destroy_compute_instance(number)
        gpu.destroy_gpu_instance(number)


def _occupy(create: Callable[[Mapping[str, str]], Vendor], identity: str, used: bool) -> None:
    with _open(create, identity) as (gpu, number):
        gpu.occupy(number, used=used)


@contextmanager
def _open(create: Callable[[Mapping[str, str]], Vendor], identity: str) -> Iterator[tuple[Any, int]]:
    """Hold the accelerator on which a partition is, and tell its number."""
    vendor = create({})
    instances = _get_instances(vendor)
    for chip in _get_chips(vendor).values():
        number = next((each.number for each in instances.look(chip).instances if each.uuid == identity), None)
        if number is not None:
            with instances.open(chip) as gpu:
                yield gpu, number
            return
    raise LookupError(identity)


def _get_instances(vendor: Any) -> Any:
    """Any, because this file also serves copies of the vendor under other names."""
    return vendor.instances


def _get_chips(vendor: Any) -> Any:
    return vendor.look().chips
