"""The claim that the README gives a newcomer does what it says, on the embedded cluster with the real plugin."""

from __future__ import annotations

from pathlib import Path

from driver.simulation.cluster import Cluster
from driver.simulation.nodes import NodeSpec
from tests.docs.blocks import ROOT, read_blocks


def test_the_first_claim_gives_its_pod_one_device(tmp_path: Path) -> None:
    (example,) = [
        block for block in read_blocks(ROOT / "README.md") if (block.language, block.tag) == ("yaml", "cluster")
    ]
    (tmp_path / "first.yaml").write_text(example.text)
    with Cluster([NodeSpec(name="node-a")]) as cluster:
        cluster.wait_ready()
        cluster.apply(tmp_path / "first.yaml")
        sandbox = cluster.sandbox(cluster.wait_running("first"))
        assert sandbox is not None
        (container,) = sandbox.containers.values()
        assert len(container.contents.device_nodes) == 1
