"""What docs/operations.md says partitions cost in devices and slices is what is published."""

from __future__ import annotations

import re
import shlex

import click
import msgspec

from driver.cli.options import settings_options
from driver.core import inventory, slicing
from driver.model.devices import Inventory
from driver.settings import Settings, make_offer
from tests.docs.blocks import ROOT
from tests.fakes.partitionable import machine

TEXT = (ROOT / "docs" / "operations.md").read_text()


@click.command()
@settings_options("partitions", "partition_profiles")
def offer(settings: Settings) -> Inventory:
    """Return what eight H100 offer under these settings."""
    return inventory.build(machine("hgx-h100"), None, make_offer(settings))


def find(arguments: str) -> Inventory:
    found = offer.main(["--partitions", "dynamic", *shlex.split(arguments)], standalone_mode=False)
    assert isinstance(found, Inventory)
    return found


def lay_out(found: Inventory) -> slicing.Layout:
    return slicing.layout([entry.device for entry in found.entries], found.counter_sets)


def test_the_table_of_profiles_has_the_numbers_of_the_code() -> None:
    section = TEXT.split("### Which profiles to publish")[1].split("\n### ")[0]
    rows = re.findall(r"^\| (.+?) \| (\d+) \| (\d+) \|$", section, re.MULTILINE)
    assert len(rows) == 4
    for shown, devices, slices in rows:
        options = re.search(r"`(.+)`", shown)
        found = find(options[1] if options else "")
        assert len(found.entries) == 8 * int(devices), shown
        assert len(lay_out(found).contents) == int(slices), shown


def test_the_price_of_all_profiles_is_told_as_it_is() -> None:
    found = find("")
    contents = lay_out(found).contents
    size = sum(
        len(msgspec.json.encode(each.devices)) + len(msgspec.json.encode(each.shared_counters)) for each in contents
    )
    told = re.search(
        r"is (\d+) devices then, a node with eight of them (\d+) devices and five slices \((\d+) KiB\)", TEXT
    )
    assert told
    assert (int(told[1]), int(told[2]), len(contents)) == (len(found.entries) // 8, len(found.entries), 5)
    assert abs(size / 1024 - int(told[3])) < 20
