"""An independent judge of allocations, written from the API documentation; it shares no code with the allocator.

`check` says everything that is wrong with allocations of claims on a node; an empty list is a valid answer. It does not
ask whether a better or another answer exists.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from driver.core import cel
from driver.core.allocator import NodeView
from driver.model import quantities
from driver.model.claims import Allocation, AllocationResult, Toleration
from driver.model.published import PublishedDevice, PublishedSlice
from driver.model.requests import Constraint, DeviceClass, DeviceRequest
from driver.model.slices import Device as PlainDevice
from driver.model.slices import DeviceAttribute, DeviceCapacity, DeviceTaint
from driver.model.wanted import Claim
from tests.fakes import capacity_rules

Id = tuple[str, str, str]
Pool = tuple[str, str]


@dataclass(frozen=True, slots=True)
class World:
    """What an answer is judged by."""

    node: NodeView
    slices: Sequence[PublishedSlice]
    classes: Mapping[str, DeviceClass]
    allocated: Sequence[Claim] = ()


@dataclass(slots=True)
class _Given:
    """One result with all that belongs to it."""

    claim: Claim
    result: AllocationResult
    device: PublishedDevice
    owner: PublishedSlice
    wanted: DeviceRequest


@dataclass(slots=True)
class _Judge:
    world: World
    faults: list[str] = field(default_factory=list)

    def check(self, claims: Sequence[Claim], allocations: Sequence[Allocation]) -> list[str]:
        if len(claims) != len(allocations):
            return [f"{len(allocations)} allocations for {len(claims)} claims"]
        given: list[_Given] = []
        for claim, allocation in zip(claims, allocations, strict=True):
            own = list(self._resolve(claim, allocation))
            self._check_requests(claim, allocation, own)
            self._check_constraints(claim, own)
            self._check_config(claim, allocation)
            self._check_nodes(claim, allocation, own)
            given.extend(own)
        for each in given:
            self._check_device(each)
        self._check_exclusive(given)
        self._check_shares(given)
        self._check_counters(given)
        return self.faults

    def _blame(self, claim: Claim, text: str) -> None:
        self.faults.append(f"claim {claim}: {text}")

    def _resolve(self, claim: Claim, allocation: Allocation) -> Iterator[_Given]:
        known = {
            (each.spec.driver, each.spec.pool.name, device.name): (device, each) for each, device in self._usable()
        }
        alternatives = _alternatives(claim)
        for result in allocation.devices.results:
            found = known.get((result.driver, result.pool, result.device))
            if found is None:
                self._blame(claim, f"{_id(result)} is not a device that the node can use")
            elif result.request not in alternatives:
                self._blame(claim, f"request {result.request} is not one of the claim's")
            else:
                yield _Given(claim, result, *found, alternatives[result.request])

    def _usable(self) -> Iterator[tuple[PublishedSlice, PublishedDevice]]:
        """Devices of the newest complete generation that the node reaches."""
        for each in self._newest():
            for device in each.spec.devices:
                chooser = device if each.spec.per_device_node_selection else each.spec
                selector = chooser.node_selector
                if (
                    chooser.all_nodes
                    or (chooser.node_name and chooser.node_name == self.world.node.name)
                    or (selector and selector.matches(self.world.node.name, self.world.node.labels))
                ):
                    yield each, device

    def _newest(self) -> list[PublishedSlice]:
        groups: dict[Pool, list[PublishedSlice]] = defaultdict(list)
        for each in self.world.slices:
            groups[each.spec.driver, each.spec.pool.name].append(each)
        return [each for group in groups.values() for each in _current(group, self.world.node)]

    def _check_requests(self, claim: Claim, allocation: Allocation, own: Sequence[_Given]) -> None:
        results = allocation.devices.results
        if len(results) > 32:
            self._blame(claim, f"{len(results)} results, at most 32 are allowed")
        names = list(dict.fromkeys(result.request for result in results))
        order = [
            name for request in claim.spec.devices.requests for name in names if name.partition("/")[0] == request.name
        ]
        if names != order:
            self._blame(claim, f"results are for {names}, in the order of the claim: {order}")
        mains = [name.partition("/")[0] for name in names]
        if len(set(mains)) != len(mains):
            self._blame(claim, f"two alternatives of one request are allocated: {names}")
        counts = Counter(result.request for result in results)
        for request in claim.spec.devices.requests:
            if request.exactly is not None:
                self._check_count(claim, request.name, request.exactly, counts, own)
            elif not any(main == request.name for main in mains) and all(sub.count for sub in request.first_available):
                self._blame(claim, f"request {request.name} got nothing")
            for sub in request.first_available:
                if f"{request.name}/{sub.name}" in counts:
                    self._check_count(claim, f"{request.name}/{sub.name}", sub, counts, own)

    def _check_count(
        self, claim: Claim, name: str, wanted: DeviceRequest, counts: Mapping[str, int], own: Sequence[_Given]
    ) -> None:
        if wanted.allocation_mode == "ExactCount":
            if counts.get(name, 0) != wanted.count:
                self._blame(claim, f"request {name} got {counts.get(name, 0)} of {wanted.count} devices")
            return
        matching = {
            (each.spec.driver, each.spec.pool.name, device.name)
            for each, device in self._usable()
            if self._selects(wanted, each.spec.driver, device)
            and capacity_rules.fits(
                device, _asked(wanted), self._held((each.spec.driver, each.spec.pool.name, device.name))
            )
        }
        got = {_id(each.result) for each in own if each.result.request == name}
        if not got or got != matching:
            self._blame(claim, f"request {name} asks for all of {sorted(matching)}, got {sorted(got)}")

    def _held(self, device: Id) -> Counter[str]:
        """Return what shares hold of a device. What they leave decides whether it is one of all devices."""
        held: Counter[str] = Counter()
        for _, result in _allocated(self.world):
            if _id(result) == device and result.share_id and not result.admin_access:
                held.update({name: quantities.parse(text).nanos for name, text in result.consumed_capacity.items()})
        return held

    def _selects(self, wanted: DeviceRequest, driver: str, device: PublishedDevice) -> bool:
        selectors = (*self.world.classes[wanted.device_class_name].spec.selectors, *wanted.selectors)
        if not selectors:
            return True
        view = _view(driver, device)
        return all(
            each.cel is not None and cel.matches(cel.compile_selector(each.cel.expression), view) for each in selectors
        )

    def _check_device(self, given: _Given) -> None:
        device, wanted, result = given.device, given.wanted, given.result
        if not self._selects(wanted, given.owner.spec.driver, device):
            self._blame(given.claim, f"{_id(result)} is not selected by request {result.request}")
        for taint in device.taints:
            if taint.effect in ("NoSchedule", "NoExecute") and not _is_tolerated(taint, wanted.tolerations):
                self._blame(given.claim, f"{_id(result)} has the taint {taint.key}, which is not tolerated")
        if bool(result.admin_access) != wanted.admin_access:
            self._blame(given.claim, f"{_id(result)}: admin access is {result.admin_access}")
        if result.tolerations != wanted.tolerations:
            self._blame(given.claim, f"{_id(result)}: tolerations of the request are missing")
        bound = (device.binding_conditions, device.binding_failure_conditions)
        if bound != (result.binding_conditions, result.binding_failure_conditions):
            self._blame(given.claim, f"{_id(result)}: binding conditions of the device are missing")
        if not capacity_rules.fits(device, _asked(wanted), {}):
            self._blame(given.claim, f"{_id(result)} cannot give the capacity that is asked for")

    def _check_exclusive(self, given: Sequence[_Given]) -> None:
        held = Counter(
            _id(result) for _, result in _allocated(self.world) if not result.admin_access and result.share_id is None
        )
        for each in given:
            if each.device.allow_multiple_allocations:
                if held[_id(each.result)] and not each.result.admin_access:
                    self._blame(each.claim, f"{_id(each.result)} is shared while somebody has all of it")
            elif not each.result.admin_access:
                if held[_id(each.result)]:
                    self._blame(each.claim, f"{_id(each.result)} is held twice")
                held[_id(each.result)] += 1
        within = Counter((str(each.claim), each.result.request, _id(each.result)) for each in given)
        for (claim, request, device), times in within.items():
            if times > 1:
                self.faults.append(f"claim {claim}: request {request} has {device} {times} times")

    def _check_shares(self, given: Sequence[_Given]) -> None:
        taken: dict[tuple[Id, str], int] = defaultdict(int)
        shares = [result.share_id for _, result in _allocated(self.world) if result.share_id]
        for _, result in _allocated(self.world):
            if result.share_id and not result.admin_access:
                for name, text in result.consumed_capacity.items():
                    taken[_id(result), name] += quantities.parse(text).nanos
        for each in given:
            result, shareable = each.result, each.device.allow_multiple_allocations
            if shareable != (result.share_id is not None):
                self._blame(each.claim, f"{_id(result)}: share id {result.share_id}")
            if set(result.consumed_capacity) != (set(each.device.capacity) if shareable else set()):
                self._blame(each.claim, f"{_id(result)}: consumes {dict(result.consumed_capacity)}")
                continue
            shares += [result.share_id] if result.share_id else []
            for name, text in result.consumed_capacity.items():
                amount = quantities.parse(text).nanos
                self._check_amount(each, name, amount)
                taken[_id(result), name] += amount
                if taken[_id(result), name] > quantities.parse(each.device.capacity[name].value).nanos:
                    self._blame(each.claim, f"{_id(result)}: more {name} is given away than there is")
        if len(set(shares)) != len(shares):
            self.faults.append("a share id is used twice")

    def _check_amount(self, given: _Given, name: str, amount: int) -> None:
        expected = capacity_rules.granted(given.device.capacity[name], _asked(given.wanted).get(name))
        if amount != expected:
            self._blame(given.claim, f"{_id(given.result)}: consumes {amount} of {name} instead of {expected}")

    def _check_counters(self, given: Sequence[_Given]) -> None:
        """A device takes its counters once, however many shares; new shares do so again if allocated ones are empty."""
        takes: Counter[Id] = Counter()
        counted: set[Id] = set()
        touched: set[Pool] = set()
        for _, result in _allocated(self.world):
            if not result.admin_access:
                takes[_id(result)] = 1
                counted |= {_id(result)} if result.share_id and result.consumed_capacity else set()
        for each in given:
            if not (each.device.allow_multiple_allocations and _id(each.result) in counted):
                takes[_id(each.result)] += 1
                touched |= {_id(each.result)[:2]} if each.device.consumes_counters else set()
            counted.add(_id(each.result))
        for (pool, counter), amount in self._reckon(takes).items():
            if amount < 0 and pool in touched:
                self.faults.append(f"pool {pool}: counter {counter} is {-amount} below zero")

    def _reckon(self, takes: Mapping[Id, int]) -> Mapping[tuple[Pool, str], int]:
        """Return what is left of every counter of every pool."""
        left: Counter[tuple[Pool, str]] = Counter()
        for one in self._newest():
            pool = (one.spec.driver, one.spec.pool.name)
            for counter_set in one.spec.shared_counters:
                for name, counter in counter_set.counters.items():
                    left[pool, f"{counter_set.name}/{name}"] += quantities.parse(counter.value).nanos
            for device in one.spec.devices:
                for consumption in device.consumes_counters:
                    for name, counter in consumption.counters.items():
                        amount = takes.get((*pool, device.name), 0) * quantities.parse(counter.value).nanos
                        left[pool, f"{consumption.counter_set}/{name}"] -= amount
        return left

    def _check_constraints(self, claim: Claim, own: Sequence[_Given]) -> None:
        for constraint in claim.spec.devices.constraints:
            concerned = [each for each in own if _is_about(constraint, each.result.request)]
            name = constraint.match_attribute or constraint.distinct_attribute
            values = [_find_attribute(each, name) for each in concerned]
            if None in values:
                self._blame(claim, f"a device without {name} was taken in spite of a constraint on it")
            elif constraint.match_attribute and len(set(map(repr, values))) > 1:
                self._blame(claim, f"devices differ in {name}: {values}")
            elif not constraint.match_attribute and len(set(map(repr, values))) < len(values):
                self._blame(claim, f"devices share a value of {name}: {values}")

    def _check_config(self, claim: Claim, allocation: Allocation) -> None:
        chosen = {result.request for result in allocation.devices.results}
        for config in allocation.devices.config:
            if config.source == "FromClass" and not config.requests:
                self._blame(claim, "a class configuration names no request")
            if config.source not in ("FromClass", "FromClaim"):
                self._blame(claim, f"a configuration comes from {config.source!r}")
        for asked in claim.spec.devices.config:
            for_chosen = any(name in asked.requests or name.partition("/")[0] in asked.requests for name in chosen)
            expected = not asked.requests or for_chosen
            present = any(
                each.source == "FromClaim" and (each.requests, each.opaque) == (asked.requests, asked.opaque)
                for each in allocation.devices.config
            )
            if expected and not present:
                self._blame(claim, f"configuration for {asked.requests} is missing")

    def _check_nodes(self, claim: Claim, allocation: Allocation, own: Sequence[_Given]) -> None:
        selector, node = allocation.node_selector, self.world.node
        if selector is not None and not selector.matches(node.name, node.labels):
            self._blame(claim, "the allocation cannot be used on the node it was made for")
        local = any(
            (each.device if each.owner.spec.per_device_node_selection else each.owner.spec).node_name
            or each.device.binds_to_node
            for each in own
        )
        if local and (selector is None or selector.matches("some-other-node", {**node.labels})):
            self._blame(claim, "a device of this node is allocated for other nodes too")


def check(world: World, claims: Sequence[Claim], allocations: Sequence[Allocation]) -> list[str]:
    """Return what is wrong with the allocations of claims that were allocated together; nothing if they are valid."""
    return _Judge(world).check(claims, allocations)


def _current(slices: Sequence[PublishedSlice], node: NodeView) -> list[PublishedSlice]:
    """Return the slices of a pool that count on a node; none if the pool is incomplete or being replaced.

    A newer generation of which the node has no slice does not end an older one that is complete on the node.
    """
    seen = [each for each in slices if each.spec.shared_counters or _concerns(each, node)]
    newest = max((each.spec.pool.generation for each in seen), default=0)
    own = [each for each in seen if each.spec.pool.generation == newest]
    if not own or len(own) == own[0].spec.pool.resource_slice_count:
        return own
    everywhere = [each for each in slices if each.spec.pool.generation >= newest]
    is_replaced = any(each.spec.pool.generation > newest for each in everywhere)
    is_whole = len(everywhere) == own[0].spec.pool.resource_slice_count
    return everywhere if is_whole and not is_replaced else []


def _concerns(each: PublishedSlice, node: NodeView) -> bool:
    return any(
        where.all_nodes
        or (where.node_name != "" and where.node_name == node.name)
        or (where.node_selector is not None and where.node_selector.matches(node.name, node.labels))
        for where in (each.spec.devices if each.spec.per_device_node_selection else (each.spec,))
    )


def _asked(wanted: DeviceRequest) -> Mapping[str, str]:
    return wanted.capacity.requests if wanted.capacity else {}


def _id(result: AllocationResult) -> Id:
    return result.driver, result.pool, result.device


def _allocated(world: World) -> Iterator[tuple[Claim, AllocationResult]]:
    for claim in world.allocated:
        for result in claim.status.allocation.devices.results if claim.status.allocation else ():
            yield claim, result


def _alternatives(claim: Claim) -> dict[str, DeviceRequest]:
    found = {each.name: each.exactly for each in claim.spec.devices.requests if each.exactly is not None}
    for request in claim.spec.devices.requests:
        found.update({f"{request.name}/{sub.name}": sub for sub in request.first_available})
    return found


def _view(driver: str, device: PublishedDevice) -> cel.View:
    attributes = {
        name: DeviceAttribute(int_=each.int_, bool_=each.bool_, string=each.string, version=each.version)
        for name, each in device.attributes.items()
    }
    capacity = {name: DeviceCapacity(value=each.value) for name, each in device.capacity.items()}
    plain = PlainDevice(name=device.name, attributes=attributes, capacity=capacity)
    return cel.view(driver, plain, allow_multiple_allocations=device.allow_multiple_allocations)


def _is_tolerated(taint: DeviceTaint, tolerations: Sequence[Toleration]) -> bool:
    for each in tolerations:
        same_key = each.key in ("", taint.key)
        same_effect = each.effect in ("", taint.effect)
        same_value = each.operator == "Exists" or (each.operator in ("", "Equal") and each.value == taint.value)
        if same_key and same_effect and same_value:
            return True
    return False


def _is_about(constraint: Constraint, request: str) -> bool:
    main = request.partition("/")[0]
    return not constraint.requests or request in constraint.requests or main in constraint.requests


def _find_attribute(given: _Given, name: str) -> object:
    attributes = given.device.attributes
    domain, _, identifier = name.partition("/")
    if name in attributes:
        return attributes[name]
    return attributes.get(identifier) if domain == given.owner.spec.driver else None
