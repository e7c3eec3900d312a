"""No device is ever held by two claims, whatever happens between controllers, scheduler and API server.

Three controllers of which the lease lets one lead at a time, although a write of an earlier one may be under way or
arrive later; each sees the claims through a watch that lags behind. kube-scheduler reserves, binds and clears;
kube-controller-manager releases; people create and delete. At the end everything that can be allocated is, groups are
whole, and nothing is held that nobody wants.
"""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from driver.controller.terms import Hands, Term, TermEnded, one_by_one
from driver.core.deciding.memory import Memory, Patience
from driver.core.deciding.world import World
from driver.model.claims import DELETE_PROTECTION
from driver.model.errors import Conflict, DriverError
from driver.model.policies import GROUP_LABEL
from driver.model.wanted import Claim
from driver.model.workloads import WorkloadStatus
from tests.fakes import claim_store
from tests.fakes.claim_store import Copy, CrashError, Network, Store
from tests.fakes.controlled import ask, make_claim, make_node, make_pod
from tests.fakes.stock import Stock

DEVICES = {"a": 2, "b": 1}
NODES = {name: make_node(name, labels={"rack": name}) for name in DEVICES}
CONTROLLERS = 2
Faults = Mapping[str, str]
FAULTS: st.SearchStrategy[Faults] = st.one_of(
    st.just({}),
    st.dictionaries(
        st.sampled_from(["allocate", "allocate", "protect", "unprotect", "clear", "read"]),
        st.sampled_from(["late", "overtake", "lose", "crash", "refuse"]),
        max_size=2,
    ),
)
"""What happens to the first request of a kind."""


class Controller:
    """One process: a network, a copy of the claims, and a term while it leads."""

    def __init__(self, machine: ControllerMachine, index: int) -> None:
        self.machine = machine
        self.index = index
        self.network = Network(machine.store)
        self.copy = Copy(machine.store)
        self.term: Term | None = None
        self.number = -1
        self.is_open = False

    def lead(self) -> None:
        """Begin a term."""
        self.machine.leading = self.number = self.machine.leading + 1
        number = self.number
        hands = Hands(
            claims=self.network,
            leads=lambda: self.machine.leading == number,
            do_all=one_by_one,
            clock=lambda: self.machine.time,
            now=lambda: dt.datetime(2026, 1, 1, tzinfo=dt.UTC),
        )
        self.term = Term(hands, Memory(Patience(refusal=30, grace=10)))
        self.is_open = False

    def act(self) -> None:
        """Fence off what went before, or do a round."""
        if self.term is None:
            return
        try:
            if not self.is_open:
                self.term.open()
                self.copy.relist()
                self.is_open = True
            else:
                world = World(dict(self.copy.claims), dict(self.machine.store.pods), NODES, {})
                self.term.step(world, Stock(DEVICES), ask)
        except TermEnded:
            self.term = None
        except DriverError:
            pass


class ControllerMachine(RuleBasedStateMachine):
    """See the module."""

    def __init__(self) -> None:
        super().__init__()
        self.store = Store()
        self.time = 0.0
        self.leading = 0
        self.serial = 0
        self.late: list[Callable[[], object]] = []
        self.controllers = [Controller(self, index) for index in range(CONTROLLERS)]
        self.controllers[0].lead()

    @initialize(priorities=st.lists(st.integers(0, 3), min_size=2, max_size=4))
    def begin(self, priorities: list[int]) -> None:
        for priority in priorities:
            self.create("single", 1, priority, "")
        self.take_over(0, 1, {})

    # People.

    @rule(
        kind=st.sampled_from(["single", "single", "pair", "immediate", "group"]),
        count=st.integers(1, 2),
        priority=st.integers(0, 3),
        within=st.sampled_from(["", "@rack"]),
    )
    def create(self, kind: str, count: int, priority: int, within: str) -> None:
        """Create a claim with a pod, two claims for one pod, or a group."""
        self.serial += 1
        name = f"c{self.serial}"
        if kind == "group":
            for index in range(count + 1):
                member = f"g{self.serial}-{index}"
                policy = f"group-{count + 1}{within}"
                self.store.create(make_claim(member, policy=policy, group=f"g{self.serial}"))
                self._create_pod(member, member, priority=priority)
        elif kind == "pair":
            self.store.create(make_claim(f"{name}x"))
            self.store.create(make_claim(f"{name}y"))
            self._create_pod(name, f"{name}x", f"{name}y", priority=priority)
        else:
            self.store.create(make_claim(name, count, policy="ours" if kind == "single" else kind))
            self._create_pod(name, name, priority=priority)

    def _create_pod(self, name: str, *claims: str, priority: int = 0) -> None:
        self.store.pods[f"team/{name}"] = make_pod(name, *claims, priority=priority)

    @rule(data=st.data(), what=st.sampled_from(["pod", "claim"]))
    def delete(self, data: st.DataObject, what: str) -> None:
        objects: Mapping[str, object] = self.store.pods if what == "pod" else self.store.claims
        if objects:
            key = data.draw(st.sampled_from(sorted(objects)))
            if what == "pod":
                del self.store.pods[key]
            else:
                self.store.delete(self.store.claims[key])

    # Kubernetes.

    @rule(data=st.data(), clears=st.booleans())
    def run_kubernetes(self, data: st.DataObject, clears: bool) -> None:
        """kube-scheduler looks at one pod: binds it if it can, or by whim clears a claim that nobody uses."""
        if self.store.pods:
            self._schedule(data.draw(st.sampled_from(sorted(self.store.pods))), clears=clears)
        self.release()

    def _schedule(self, key: str, *, clears: bool) -> None:
        pod = self.store.pods[key]
        if pod.spec.node_name:
            return
        names = [f"team/{entry.resource_claim_name}" for entry in pod.spec.resource_claims]
        claims = [self.store.claims[name] for name in names if name in self.store.claims]
        held = [claim for claim in claims if claim.status.allocation]
        nodes = {r.pool for claim in held if claim.status.allocation for r in claim.status.allocation.devices.results}
        is_ready = len(held) == len(names) and len(nodes) == 1
        if is_ready and not clears and not any(claim.metadata.deletion_timestamp for claim in held):
            for claim in held:
                if not claim.is_reserved_for(pod.metadata.uid):
                    claim_store.reserve(self.store, claim, pod)
            spec = msgspec.structs.replace(pod.spec, node_name=nodes.pop())
            status = WorkloadStatus(phase="Running")
            self.store.pods[key] = msgspec.structs.replace(pod, spec=spec, status=status)
        elif clears:
            for claim in held[:1]:
                if not claim.status.reserved_for:
                    claim_store.deallocate(self.store, claim)

    def release(self) -> None:
        """kube-controller-manager: claims whose users are gone, and deleted ones that nobody uses."""
        uids = {pod.metadata.uid for pod in self.store.pods.values()}
        for claim in list(self.store.claims.values()):
            users = claim.status.reserved_for
            if (users or claim.metadata.deletion_timestamp) and not any(each.uid in uids for each in users):
                claim_store.release(self.store, claim)

    def _end_one(self) -> None:
        """One workload runs and ends, and its devices are free."""
        for key in sorted(self.store.pods):
            self._schedule(key, clears=False)
            if self.store.pods[key].spec.node_name:
                del self.store.pods[key]
                break
        self.release()

    # Controllers.

    @rule(
        index=st.integers(0, CONTROLLERS - 1),
        events=st.sampled_from([0, 1, 2, 100, 100]),
        faults=FAULTS,
        late=st.sampled_from(["", "", "before", "after", "lost"]),
        ends=st.booleans(),
    )
    def do_a_round(self, index: int, events: int, faults: Faults, late: str, ends: bool) -> None:
        """Often after a workload has ended, so that there is something to give away."""
        controller = self.controllers[index]
        if late == "before":
            self._deliver()
        if ends:
            self._end_one()
        controller.copy.advance(events)
        self._act(controller, faults)
        if late == "after":
            self._deliver()
        elif late == "lost":
            self.late.clear()

    @rule(
        first=st.sampled_from(["allocate", "allocate", "protect", "unprotect", "clear"]),
        fault=st.sampled_from(["late", "late", "lose", "crash", "overtake"]),
        changes=st.booleans(),
        is_seen=st.booleans(),
        ends=st.booleans(),
    )
    def lose_a_write(self, first: str, fault: str, changes: bool, is_seen: bool, ends: bool) -> None:
        """A write goes astray, perhaps the lease goes to another one, something urgent comes up, the write arrives."""
        old, new = self.controllers
        if old.number != self.leading:
            old, new = new, old
        if ends:
            self._end_one()
        old.copy.advance(100)
        self._act(old, {first: fault})
        self.create("single", 1, 9, "")
        new = new if changes else self.controllers[old.index]
        if changes:
            new.lead()
            self._act(new, {})
        elif is_seen:
            new.copy.advance(100)
        self._act(new, {})
        self._deliver()

    @rule(index=st.integers(0, CONTROLLERS - 1), rounds=st.integers(0, 2), faults=FAULTS)
    def take_over(self, index: int, rounds: int, faults: Faults) -> None:
        """The lease goes to a controller, which begins and decides."""
        self.controllers[index].lead()
        for _ in range(rounds + 1):
            self._act(self.controllers[index], faults)

    def _act(self, controller: Controller, faults: Faults) -> None:
        other = self.controllers[(controller.index + 1) % CONTROLLERS]

        def overtake() -> None:
            """While the request is under way the lease runs out and another one leads and decides otherwise."""
            self.create("single", 1, 9, "")
            other.lead()
            for _ in range(3):
                other.act()
                other.copy.advance(100)

        controller.network.faults = {verb: overtake if fault == "overtake" else fault for verb, fault in faults.items()}
        try:
            controller.act()
        except CrashError:
            self._crash(controller)
        finally:
            controller.network.faults = {}
            self.late += controller.network.late
            controller.network.late = []

    def _crash(self, controller: Controller) -> None:
        self.controllers[controller.index] = Controller(self, controller.index)

    @rule(index=st.integers(0, CONTROLLERS - 1))
    def relist(self, index: int) -> None:
        if self.controllers[index].is_open:
            self.controllers[index].copy.relist()

    def _deliver(self) -> None:
        """Let everything arrive that was under way."""
        late, self.late = self.late, []
        for request in late:
            _try(request)
            self.no_device_is_held_by_two_claims()

    @rule(seconds=st.floats(0.5, 40))
    def wait(self, seconds: float) -> None:
        self.time += seconds

    # What holds always.

    @invariant()
    def no_device_is_held_by_two_claims(self) -> None:
        held = Counter(
            (result.pool, result.device)
            for claim in self.store.claims.values()
            if claim.status.allocation
            for result in claim.status.allocation.devices.results
        )
        assert not [device for device, count in held.items() if count > 1]

    @invariant()
    def what_is_allocated_is_protected_and_on_one_node(self) -> None:
        for claim in self.store.claims.values():
            if claim.status.allocation:
                assert DELETE_PROTECTION in claim.metadata.finalizers
                assert claim.status.allocation.allocation_timestamp
                assert len({result.pool for result in claim.status.allocation.devices.results}) == 1

    # What holds in the end.

    def teardown(self) -> None:
        """Let one controller work undisturbed until nothing changes any more."""
        self._deliver()
        leader = Controller(self, 0)
        self.controllers[0] = leader
        leader.lead()
        for turn in range(12):
            leader.act()
            leader.copy.advance(1000)
            self.release()
            if turn > 6:
                for key in sorted(self.store.pods):
                    _try(partial(self._schedule, key, clears=False))
            leader.copy.advance(1000)
            self.no_device_is_held_by_two_claims()
            self.time += 31
        self.what_is_allocated_is_protected_and_on_one_node()
        self._check_wishes()
        self._check_groups()

    def _check_wishes(self) -> None:
        """Nothing is held for nobody, and nothing small waits while there is room."""
        wanted = {
            f"team/{entry.resource_claim_name}"
            for pod in self.store.pods.values()
            for entry in pod.spec.resource_claims
        }
        free = sum(DEVICES.values())
        for key, claim in self.store.claims.items():
            if claim.status.allocation:
                free -= len(claim.status.allocation.devices.results)
                assert key in wanted or _word(claim) == "immediate", f"{key} is held for nobody"
        for key, claim in self.store.claims.items():
            is_small = _word(claim) in ("ours", "immediate") and _count(claim) == 1 and not key.endswith(("x", "y"))
            if is_small and not claim.status.allocation and not claim.metadata.deletion_timestamp:
                assert not free or (key not in wanted and _word(claim) == "ours"), f"{key} waits and {free} are free"

    def _check_groups(self) -> None:
        """A group is whole or holds nothing, but for members whose pods ran before the others were gone."""
        groups: dict[str, list[Claim]] = {}
        for claim in self.store.claims.values():
            if GROUP_LABEL in claim.metadata.labels:
                groups.setdefault(claim.metadata.labels[GROUP_LABEL], []).append(claim)
        for name, claims in groups.items():
            size = int(_word(claims[0]).removeprefix("group-").partition("@")[0])
            held = [claim for claim in claims if claim.status.allocation]
            idle = [claim for claim in held if not claim.status.reserved_for and not claim.metadata.deletion_timestamp]
            assert len(held) in (0, size) or not idle, f"group {name} holds {len(held)} of {size}"


def _try(request: Callable[[], object]) -> None:
    try:
        request()
    except (DriverError, Conflict):
        return


def _word(claim: Claim) -> str:
    opaque = claim.spec.devices.config[0].opaque
    assert opaque is not None
    return msgspec.json.decode(opaque.parameters, type=str)


def _count(claim: Claim) -> int:
    return sum(request.exactly.count for request in claim.spec.devices.requests if request.exactly)


TestControllers = ControllerMachine.TestCase
TestControllers.settings = settings(max_examples=250, stateful_step_count=25, deadline=None)
