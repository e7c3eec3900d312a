"""Leader election: against a real lease over HTTP, and many candidates on one that misbehaves."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from driver.core.leasing import Lease, LeaseSpec, Terms
from driver.kube.access import Access
from driver.kube.client import Client
from driver.kube.lease import Elector, Leases, StoredLease
from driver.model.errors import Conflict, DriverError, Unavailable
from driver.model.objects import ObjectMeta
from driver.simulation.apiserver import ApiServer
from tests.fakes.waiting import wait_until

PATH = "/apis/coordination.k8s.io/v1/namespaces/default/leases"
QUICK = Terms(duration=2, renew_deadline=1.2, retry=0.05)


@pytest.fixture
def client() -> Iterator[Client]:
    with ApiServer() as server:
        client = Client(Access(server=server.url))
        yield client
        client.close()


def stand(leases: Leases, identity: str, terms: Terms = QUICK) -> Elector:
    return Elector(leases, identity, terms, lambda: None, lambda _: None)


def holder(client: Client) -> str:
    spec = json.loads(client.get(f"{PATH}/c"))["spec"]
    return str(spec.get("holderIdentity", ""))


def test_one_of_two_leads_and_the_other_follows_when_it_ends(client: Client) -> None:
    first, second = (stand(StoredLease(client, "default", "c"), name) for name in ("a", "b"))
    first.start()
    wait_until(lambda: first.term is not None)
    second.start()
    wait_until(lambda: second.holder == "a")
    assert second.term is None
    first.stop()
    assert first.term is None
    wait_until(lambda: second.term is not None)
    assert holder(client) == "b"
    second.stop()
    assert holder(client) == ""


def test_a_lease_is_renewed_and_keeps_what_others_put_into_it(client: Client) -> None:
    elector = stand(StoredLease(client, "default", "c"), "a")
    elector.try_once()
    client.patch(f"{PATH}/c", b'{"metadata":{"labels":{"team":"x"}}}')
    with pytest.raises(Conflict):
        elector.try_once()
    elector.try_once()
    stored = json.loads(client.get(f"{PATH}/c"))
    assert stored["metadata"]["labels"] == {"team": "x"}
    assert stored["spec"]["leaseTransitions"] == 0
    assert stored["spec"]["renewTime"] > stored["spec"]["acquireTime"]


def test_a_lease_that_is_deleted_is_made_anew(client: Client) -> None:
    elector = stand(StoredLease(client, "default", "c"), "a")
    elector.try_once()
    client.delete(f"{PATH}/c")
    with pytest.raises(DriverError):
        elector.try_once()
    elector.try_once()
    assert elector.term == 1


def test_a_holder_that_is_killed_is_succeeded_after_the_duration(client: Client) -> None:
    now = [0.0]
    dead = Elector(
        StoredLease(client, "default", "c"), "a", Terms(), lambda: None, lambda _: None, clock=lambda: now[0]
    )
    heir = Elector(
        StoredLease(client, "default", "c"), "b", Terms(), lambda: None, lambda _: None, clock=lambda: now[0]
    )
    dead.try_once()
    heir.try_once()
    now[0] = 14.9
    heir.try_once()
    assert heir.term is None
    now[0] = 15.0
    heir.try_once()
    assert heir.term == 1


def test_a_term_ends_by_itself_when_the_server_is_away() -> None:
    now = [0.0]
    store = Store()
    elector = Elector(store, "a", Terms(), lambda: None, lambda _: None, clock=lambda: now[0])
    elector.try_once()
    store.faults.append("refuse")
    now[0] = 9.9
    with pytest.raises(Unavailable):
        elector.try_once()
    terms = [elector.term]
    now[0] = 10.0
    terms.append(elector.term)
    elector.try_once()
    assert [*terms, elector.term] == [1, None, 2]  # whatever was known in the first term is to be looked at again


def test_changes_and_failures_are_told() -> None:
    changes: list[int | None] = []
    failures: list[Exception] = []
    store = Store(faults=["refuse"])
    elector = Elector(store, "a", QUICK, lambda: changes.append(elector.term), failures.append)
    elector.start()
    wait_until(lambda: changes == [1])
    assert [type(each) for each in failures] == [Unavailable]
    store.faults.extend(["refuse"] * 40)
    wait_until(lambda: changes == [1, None])
    store.faults.clear()
    wait_until(lambda: changes == [1, None, 2])
    assert elector.alive
    elector.stop()


@dataclass
class Store:
    """A lease in memory. `faults`: `refuse` does nothing, `lose` does it and loses the answer."""

    lease: Lease | None = None
    faults: list[str] = field(default_factory=list)
    version: int = 0
    pause: Callable[[], None] = lambda: None

    def fetch(self, timeout: float) -> Lease | None:
        assert timeout > 0
        if self.faults and self.faults.pop(0) == "refuse":
            raise Unavailable("away")
        return self.lease

    def create(self, spec: LeaseSpec, timeout: float) -> Lease:
        return self._write(spec, timeout, expected=None)

    def change(self, lease: Lease, spec: LeaseSpec, timeout: float) -> Lease:
        return self._write(spec, timeout, expected=lease)

    def _write(self, spec: LeaseSpec, timeout: float, expected: Lease | None) -> Lease:
        assert timeout > 0
        self.pause()
        fault = self.faults.pop(0) if self.faults else ""
        if fault == "refuse":
            raise Unavailable("away")
        if self.lease is not expected and (
            self.lease is None or expected is None or self.lease.metadata != expected.metadata
        ):
            raise Conflict("changed")
        self.version += 1
        self.lease = Lease(metadata=ObjectMeta(uid="u", resource_version=str(self.version)), spec=spec)
        self.pause()
        if fault == "lose":
            raise Unavailable("the answer was lost")
        return self.lease


class Election(RuleBasedStateMachine):
    """Three candidates whose clocks show different times, a store that loses answers, requests that take long."""

    def __init__(self) -> None:
        super().__init__()
        self.time = 0.0
        self.store = Store()
        self.electors = [self._make(index, offset) for index, offset in enumerate((0.0, 5000.0, -3.0))]
        self.ended: set[int] = set()

    def _make(self, index: int, offset: float) -> Elector:
        def clock() -> float:
            return self.time + offset

        return Elector(self.store, f"candidate-{index}", Terms(), lambda: None, lambda _: None, clock=clock)

    @rule(
        index=st.integers(0, 2),
        faults=st.lists(st.sampled_from(["", "refuse", "lose"]), max_size=2),
        delays=st.lists(st.floats(0, 20), max_size=4),
    )
    def attempt(self, index: int, faults: list[str], delays: list[float]) -> None:
        """Try once; time passes on the way to the store and back, and others may look meanwhile."""
        if index in self.ended:
            return
        self.store.faults = list(faults)

        def pass_time() -> None:
            self.time += delays.pop() if delays else 0.0
            self.at_most_one_leads()

        self.store.pause = pass_time
        try:
            self.electors[index].try_once()
        except DriverError:
            pass
        finally:
            self.store.faults, self.store.pause = [], lambda: None

    @rule(seconds=st.floats(0.1, 16))
    def wait(self, seconds: float) -> None:
        self.time += seconds

    @rule(index=st.integers(0, 2))
    def end(self, index: int) -> None:
        self.electors[index].stop()
        self.ended.add(index)

    @rule(index=st.integers(0, 2))
    def begin(self, index: int) -> None:
        if index in self.ended:
            self.ended.discard(index)
            self.electors[index] = self._make(index + 3 * len(self.ended), 77.0)

    @invariant()
    def at_most_one_leads(self) -> None:
        assert sum(elector.term is not None for elector in self.electors) <= 1

    @invariant()
    def one_who_leads_holds_the_lease(self) -> None:
        for elector in self.electors:
            if elector.term is not None:
                assert self.store.lease is not None
                assert self.store.lease.spec.holder_identity == elector.holder


TestElection = Election.TestCase
TestElection.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
