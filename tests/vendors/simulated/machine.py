"""Machines of this vendor for the contract suite: every node that ships with it, and one whose file can change."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from driver import vendors
from driver.contract import Vendor
from tests.vendors.machines import Machine, make_roots

NAME = Path(__file__).parent.name
DATA = Path(vendors.__file__).parent / NAME / "data"
NODES = sorted(path.stem for path in (DATA / "nodes").glob("*.json"))


def machines(folder: Path) -> Sequence[Machine]:
    """Return the shipped nodes, and copies of two of them that can break."""
    changing = [folder / "whole.json", folder / "parts.json"]
    for path, node in zip(changing, ("hgx-h100", "a100-mig"), strict=True):
        path.write_bytes((DATA / "nodes" / f"{node}.json").read_bytes())
    return (
        *(Machine(node, _creates(folder, node)) for node in NODES),
        *(
            Machine(path.stem, _creates(folder, str(path)), partial(_break_first, path), path.unlink)
            for path in changing
        ),
    )


def _creates(folder: Path, node: str) -> Callable[[Mapping[str, str]], Vendor]:
    return lambda options: vendors.load(NAME, make_roots(folder), {"node": node, **options})


def _break_first(path: Path) -> None:
    node = json.loads(path.read_text())
    node["devices"][0]["failure"] = "it fell off the bus"
    path.write_text(json.dumps(node))
