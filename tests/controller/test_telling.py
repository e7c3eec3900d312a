"""What is said to whom, and how loudly."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from driver.controller.telling import Teller
from driver.core.deciding.world import Reason, Waiting
from driver.kube.access import Access
from driver.kube.client import Client
from driver.kube.events import EventWriter
from driver.model.errors import Unavailable
from driver.simulation.apiserver import ApiServer
from driver.telemetry import logs
from driver.telemetry.controller_metrics import ControllerMetrics
from tests.fakes.controlled import make_claim, make_pod
from tests.fakes.waiting import wait_until


class Ears:
    """A teller with its Events, metrics and log."""

    def __init__(self, server: ApiServer) -> None:
        self.client = Client(Access(server=server.url))
        self.events = EventWriter(self.client, "accel-dra.dev/controller", "me")
        self.metrics = ControllerMetrics()
        self.teller = Teller(self.metrics, self.events)
        self.events.start()

    def wait(self, count: int) -> list[dict[str, object]]:
        def look() -> list[dict[str, object]]:
            items: list[dict[str, object]] = json.loads(
                self.client.get("/apis/events.k8s.io/v1/namespaces/team/events")
            )["items"]
            return items

        wait_until(lambda: len(look()) == count, f"{count} Events")
        return look()


@pytest.fixture(autouse=True)
def _restore() -> Iterator[None]:
    handlers, propagate, level = logs.LOGGER.handlers, logs.LOGGER.propagate, logs.LOGGER.level
    yield
    logs.LOGGER.handlers, logs.LOGGER.propagate = handlers, propagate
    logs.LOGGER.setLevel(level)


@pytest.fixture
def ears() -> Iterator[Ears]:
    with ApiServer() as server:
        server.store.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "team"}})
        ears = Ears(server)
        yield ears
        ears.events.stop()
        ears.client.close()


def about(event: dict[str, object]) -> tuple[object, object, object]:
    regarding = event["regarding"]
    assert isinstance(regarding, dict)
    return regarding["kind"], regarding["name"], regarding["uid"]


def test_a_claim_that_waits_is_told_on_itself_and_on_its_pod(ears: Ears) -> None:
    ears.teller.tell_waiting(Waiting(make_claim("c"), Reason.NO_DEVICES, "all are taken", make_pod("p", "c")))
    events = ears.wait(2)
    assert {about(each) for each in events} == {("ResourceClaim", "c", "uid-c"), ("Pod", "p", "uid-p")}
    assert {(each["reason"], each["type"], each["note"]) for each in events} == {
        ("NoSuitableDevices", "Warning", "all are taken"),
        ("NoSuitableDevices", "Warning", "claim c: all are taken"),
    }


def test_all_pods_that_share_a_claim_are_told(ears: Ears) -> None:
    first, second, running = make_pod("p", "c"), make_pod("q", "c"), make_pod("r", "c", node="n")
    waiting = Waiting(make_claim("c"), Reason.NO_DEVICES, "all are taken", first)
    ears.teller.tell_waiting(waiting, (first, second, running))
    assert {about(each)[1] for each in ears.wait(3)} == {"c", "p", "q"}


def test_as_many_pods_as_may_share_a_claim_are_told(ears: Ears) -> None:
    pods = tuple(make_pod(f"p-{index}", "c") for index in range(257))
    ears.teller.tell_waiting(Waiting(make_claim("c"), Reason.NO_DEVICES, "all are taken"), pods)
    assert {about(each)[1] for each in ears.wait(257)} == {"c", *(f"p-{index}" for index in range(256))}


def test_patience_is_no_warning_and_a_pod_that_runs_is_not_told(ears: Ears) -> None:
    ears.teller.tell_waiting(Waiting(make_claim("c"), Reason.GROUP_INCOMPLETE, "3 of 4", make_pod("p", "c", node="n")))
    (event,) = ears.wait(1)
    assert (event["type"], event["reason"], about(event)[0]) == ("Normal", "WaitingForGroup", "ResourceClaim")


def test_an_allocation_is_told_on_the_claim(ears: Ears) -> None:
    ears.teller.tell_allocated(make_claim("c"), "node-a", 2)
    (event,) = ears.wait(1)
    assert (event["note"], event["type"]) == ("2 devices on node node-a allocated", "Normal")


def test_only_a_defect_comes_with_its_place(ears: Ears, capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("json", "info")
    ears.teller.tell_failure(Unavailable("the server is away"))
    text = capsys.readouterr().err
    assert "the server is away" in text
    assert "exception" not in text
    try:
        raise KeyError("oh")  # noqa: TRY301
    except KeyError as error:
        ears.teller.tell_failure(error)
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [line["level"] for line in lines] == ["warning", "error"]
    assert "test_telling.py" in lines[1]["exception"]
    assert ears.metrics.registry.get_sample_value("accel_dra_cluster_errors_total") == 2


def test_the_same_failure_is_counted_each_time_and_said_once_a_minute(
    ears: Ears, capsys: pytest.CaptureFixture[str]
) -> None:
    logs.configure("text", "info")
    now = [0.0]
    teller = Teller(ears.metrics, ears.events, lambda: now[0])
    for seconds in (0.0, 2.0, 59.0, 60.0):
        now[0] = seconds
        teller.tell_failure(Unavailable("leases are forbidden"))
    teller.tell_failure(Unavailable("something else"))
    assert capsys.readouterr().err.count("leases are forbidden") == 2
    assert b"accel_dra_cluster_errors_total 5.0" in ears.metrics.text()
