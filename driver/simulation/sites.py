"""The cluster in which the examples run: enough hardware for all of them at once. For the demo and the tests.

Four nodes belong to kube-scheduler; one of them makes partitions on demand and shares devices. The others belong to our
controller: one with network cards of a second driver, and four trays of one multi-node fabric.
"""

from __future__ import annotations

from typing import Final

from driver.model import vocabulary
from driver.simulation.nodes import NodeSpec

NIC_DRIVER: Final = "nic.accel-dra.dev"
"""The second driver: the same plugin code with other hardware under another name."""
ON_DEMAND: Final = "mig-h100"
"""The node that makes partitions and shares devices. Its name comes after those of the others, so it is taken last."""
_FENCED: Final = {"allocation-authority": "controller"}


def list_nodes(vendor: str = "simulated") -> tuple[NodeSpec, ...]:
    """Return the nodes, each with the plugins of a vendor; network cards are always simulated."""
    scheduled = {"hgx-h100": "hgx-h100", "a100": "a100-mesh-mig", "l40s": "l40s"}
    trays = {f"tray-{number}": "nvl72-tray" for number in range(4)}
    return (
        *(NodeSpec(name=name, hardware=hardware, vendor=vendor) for name, hardware in scheduled.items()),
        NodeSpec(
            name=ON_DEMAND, hardware="hgx-h100", vendor=vendor, settings={"partitions": "dynamic", "shares": "MPS"}
        ),
        NodeSpec(
            name="hgx-h200",
            hardware="hgx-h200",
            drivers=(vocabulary.DEFAULT_DRIVER_NAME, NIC_DRIVER),
            other_hardware={NIC_DRIVER: "hgx-h100-nics"},
            vendor=vendor,
            settings=_FENCED,
        ),
        *(NodeSpec(name=name, hardware=hardware, vendor=vendor, settings=_FENCED) for name, hardware in trays.items()),
    )
