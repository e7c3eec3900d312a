"""The mode of partitions follows the setting and the Node's label, whatever the API server and people do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from driver.core.offering import Mode
from driver.kube.access import Access
from driver.kube.client import Client
from driver.kube.watching import Pace
from driver.model.errors import Unavailable
from driver.model.occurrences import ModeRefused, ModeSet, NodeUnheard, Occurrence
from driver.model.vocabulary import PARTITIONS_LABEL as LABEL
from driver.node.modes import Modes
from driver.simulation.apiserver.faults import Fault
from driver.simulation.apiserver.server import ApiServer
from tests.fakes.installing import guarded_server, make_node
from tests.fakes.waiting import wait_until

QUICK = Pace(first_pause=0.01, longest_pause=0.05)


class Site:
    """A cluster with two Nodes, and what was told."""

    def __init__(self, server: ApiServer) -> None:
        self.server = server
        self.told: list[Occurrence] = []
        self.changes: list[Mode] = []
        make_node(server, "node-a")
        make_node(server, "node-b")

    @contextmanager
    def follow(self, setting: Mode = Mode.STATIC) -> Iterator[Modes]:
        client = Client(Access(server=self.server.url), timeout=5)
        modes = Modes(client, "node-a", setting, lambda: self.changes.append(modes.mode), self.told.append, QUICK)
        modes.start()
        try:
            yield modes
        finally:
            modes.stop()
            client.close()

    def label(self, value: str | None, node: str = "node-a") -> None:
        self.server.store.patch("nodes", node, {"metadata": {"labels": {LABEL: value}}})

    def refused(self) -> list[ModeRefused]:
        return [each for each in self.told if isinstance(each, ModeRefused)]


@pytest.fixture
def site() -> Iterator[Site]:
    with ApiServer() as server:
        yield Site(server)


@pytest.mark.parametrize("setting", list(Mode))
def test_without_a_label_the_setting_holds(site: Site, setting: Mode) -> None:
    with site.follow(setting) as modes:
        modes.wait(10)
        assert modes.mode is setting
        assert site.told == [ModeSet(setting.value, "the setting")]
        assert site.changes == []


def test_the_label_is_known_before_the_wait_ends(site: Site) -> None:
    site.label("dynamic")
    with site.follow() as modes:
        modes.wait(10)
        assert modes.mode is Mode.DYNAMIC
        assert site.changes == [Mode.DYNAMIC]
        assert site.told[-1] == ModeSet("dynamic", f"the label {LABEL}")


def test_it_is_switched_while_it_runs_and_without_the_label_the_setting_holds_again(site: Site) -> None:
    with site.follow() as modes:
        modes.wait(10)
        for value, mode in (("dynamic", Mode.DYNAMIC), ("off", Mode.OFF), (None, Mode.STATIC)):
            site.label(value)
            wait_until(lambda mode=mode: modes.mode is mode, str(mode))  # type: ignore[misc]
        assert site.changes == [Mode.DYNAMIC, Mode.OFF, Mode.STATIC]


def test_what_others_are_labelled_with_is_their_own_matter(site: Site) -> None:
    site.label("off", "node-b")
    with site.follow() as modes:
        modes.wait(10)
        site.label("dynamic", "node-b")
        site.label("dynamic")
        wait_until(lambda: modes.mode is Mode.DYNAMIC)
        assert site.changes == [Mode.DYNAMIC]


def test_a_value_that_is_no_mode_changes_nothing_and_is_told_once(site: Site) -> None:
    site.label("dynamic")
    with site.follow() as modes:
        modes.wait(10)
        site.label("statik")
        wait_until(site.refused)
        site.server.store.patch("nodes", "node-a", {"metadata": {"labels": {"other": "1"}}})
        site.label("")
        wait_until(lambda: len(site.refused()) == 2)
        assert modes.mode is Mode.DYNAMIC
        first, second = site.refused()
        assert first == ModeRefused(LABEL, "statik", "off, static, dynamic (static was probably meant)", "dynamic")
        assert (second.value, second.allowed) == ("", "off, static, dynamic")
        site.label("off")
        wait_until(lambda: modes.mode is Mode.OFF)
        site.label("statik")
        wait_until(lambda: len(site.refused()) == 3, "it is told again after it was put right")


def test_a_value_that_is_no_mode_at_start_leaves_the_setting(site: Site) -> None:
    site.label("on")
    with site.follow(Mode.OFF) as modes:
        modes.wait(10)
        assert modes.mode is Mode.OFF
        assert site.refused()[0].mode == "off"


def test_while_the_api_server_is_away_nothing_is_known_at_first(site: Site) -> None:
    site.label("dynamic")
    fault = site.server.faults.add(Fault(status=503, times=None))
    with site.follow() as modes:
        with pytest.raises(Unavailable, match="labels of this Node are not known yet"):
            modes.wait(0.2)
        assert modes.mode.value == "static"
        fault.times = 0
        modes.wait(10)
        assert modes.mode.value == "dynamic"
        unheard = [each for each in site.told if isinstance(each, NodeUnheard)]
        assert [each.reason for each in unheard] == ["Unavailable"], "told once and not with every try"


def test_while_the_api_server_is_away_later_the_last_mode_stays(site: Site) -> None:
    site.label("dynamic")
    with site.follow() as modes:
        modes.wait(10)
        fault = site.server.faults.add(Fault(status=503, times=None))

        def is_unheard() -> bool:
            site.server.faults.cut_watches()  # also one that was let in before the fault and opens only now
            return any(isinstance(each, NodeUnheard) for each in site.told)

        wait_until(is_unheard)
        assert modes.mode is Mode.DYNAMIC
        site.label("off")
        fault.times = 0
        wait_until(lambda: modes.mode is Mode.OFF)


def test_a_node_that_is_made_anew_is_heard(site: Site) -> None:
    site.label("dynamic")
    with site.follow() as modes:
        modes.wait(10)
        site.server.store.delete("nodes", "node-a")
        make_node(site.server, "node-a")
        wait_until(lambda: modes.mode is Mode.STATIC)
        site.label("off")
        wait_until(lambda: modes.mode is Mode.OFF)


def test_without_the_right_to_watch_nodes_the_setting_holds() -> None:
    with guarded_server() as server:
        site = Site(server)
        site.label("dynamic")
        with site.follow() as modes:
            modes.wait(10)
            assert modes.mode is Mode.STATIC
            assert [each.reason for each in site.told if isinstance(each, NodeUnheard)] == ["Forbidden"]
