"""docs/configuration.md says what the code does: its example is good, its table has every field."""

from __future__ import annotations

import json
import re
from typing import Any, Final

import yaml

from driver.core.configuring import documents, sharings
from driver.core.configuring.documents import KINDS
from driver.core.reviewing import reviews, selecting, subjects
from driver.model.sharing import Interval, Strategy
from tests.docs.blocks import ROOT, read_blocks

DOCUMENT: Final = ROOT / "docs" / "configuration.md"
TEXT: Final = DOCUMENT.read_text()


def example() -> Any:
    (block,) = [block for block in read_blocks(DOCUMENT) if block.language == "yaml"]
    return yaml.safe_load(block.text)


def test_the_example_is_clean_and_uses_every_limit() -> None:
    document = example()
    subject = subjects.decode(document["kind"], json.dumps(document).encode())
    assert reviews.review(subject, "gpu.accel-dra.dev", selecting.open_stage("gpu.accel-dra.dev")) == ()
    parameters = document["spec"]["spec"]["devices"]["config"][0]["opaque"]["parameters"]
    config = documents.read(json.dumps(parameters).encode())
    assert isinstance(config, sharings.DeviceConfig)
    assert config.choose(0, None).pinned_memory_bytes == 8 << 30
    assert config.choose(1, None).pinned_memory_bytes == 4 << 30


def test_the_table_has_every_field_and_value() -> None:
    fields = set(re.findall(r"^\| `(sharing\.[^`]+)`", TEXT, re.MULTILINE))
    mps = {f"sharing.mps.{name}" for name in sharings._MPS_FIELDS if name != "perDevice"}
    each = {f"sharing.mps.perDevice[].{name}" for name in ("index", "uuid")}
    assert fields == {
        "sharing.strategy",
        "sharing.timeSlicing.interval",
        "sharing.mps.perDevice[]",
        *mps,
        *each,
    }
    for value in (*Strategy, *Interval):
        assert f"`{value.value}`" in TEXT
    for kind in KINDS:
        assert f"| `{kind}` |" in TEXT
