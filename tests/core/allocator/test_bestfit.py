"""`best-fit` on one node, as people would choose: links first, then what does least harm to those who come later."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import pytest
from hypothesis import given, settings

from driver.core.allocator import Allocated, InvalidClaim, NodeView, Snapshot, Unsatisfiable, allocate, allocate_best
from driver.core.allocator.best import find_best
from driver.core.allocator.choosing import make_question, pose
from driver.core.allocator.standings import Place
from driver.model.claims import ClaimStatus
from driver.model.policies import Policy, Preference
from driver.model.published import Capacity, PublishedDevice
from driver.model.requests import Constraint, Request
from driver.model.slices import CapacityPolicy
from driver.model.wanted import Claim
from tests.fakes import clusters, neighbourhoods
from tests.fakes.allocation_checker import World, check
from tests.fakes.clusters import ask, make_claim
from tests.fakes.neighbourhoods import CLASSES, GPUS, NICS, NODE, make_gpu, make_partitions, publish

POLICY = Policy()
EXAMPLES = settings(max_examples=80, deadline=None)


def node(*devices: PublishedDevice, nics: Sequence[PublishedDevice] = ()) -> Snapshot:
    broken = [each.name for each in devices if each.consumes_counters and "-" not in each.name.partition("-")[2]]
    return Snapshot([*publish(GPUS, devices, broken=broken), *publish(NICS, nics)], CLASSES)


def choose(snapshot: Snapshot, *claims: Claim, policy: Policy = POLICY) -> list[str] | None:
    outcome = allocate_best(snapshot, NODE, claims, [policy] * len(claims))
    if isinstance(outcome, Unsatisfiable):
        return None
    return [each.device for one in outcome.allocations for each in one.devices.results]


def hold(snapshot: Snapshot, *devices: str) -> Snapshot:
    """Return the snapshot in which a claim has these devices."""
    claim = make_claim("old", ask("r", count=len(devices)))
    kept = [each for each in snapshot.slices if each.spec.driver == GPUS]
    kept = [
        msgspec.structs.replace(
            each,
            spec=msgspec.structs.replace(
                each.spec, devices=tuple(device for device in each.spec.devices if device.name in devices)
            ),
        )
        for each in kept
    ]
    outcome = allocate(Snapshot(kept, CLASSES), NODE, [claim])
    assert isinstance(outcome, Allocated)
    assert {each.device for each in outcome.allocations[0].devices.results} == set(devices)
    return snapshot.with_claims(msgspec.structs.replace(claim, status=ClaimStatus(allocation=outcome.allocations[0])))


def nic(name: str, root: str) -> PublishedDevice:
    return make_gpu(name, root=root, kind="", memory="")


def want(count: int = 1, kind: str = "gpu", **more: str) -> Claim:
    return make_claim("new", ask("r", kind, count=count, selectors=tuple(more.values())))


ONE_G = 'device.capacity["accel-dra.dev"].memory.compareTo(quantity("10Gi")) == 0'


def test_two_gpus_of_one_domain_beat_two_of_different_ones() -> None:
    devices = [make_gpu("gpu-0", domain="a"), make_gpu("gpu-1", domain="b"), make_gpu("gpu-2", domain="b")]
    assert choose(node(*devices), want(2)) == ["gpu-1", "gpu-2"]


def test_the_numa_node_decides_where_domains_are_equal() -> None:
    devices = [make_gpu(f"gpu-{index}", domain="a", numa=index % 2) for index in range(4)]
    assert choose(node(*devices), want(2)) == ["gpu-0", "gpu-2"]


def test_a_link_is_not_looked_at_if_the_policy_ignores_it() -> None:
    devices = [
        make_gpu("gpu-0", domain="a", numa=0),
        make_gpu("gpu-1", domain="b", numa=0),
        make_gpu("gpu-2", domain="b"),
    ]
    easy = Policy(interconnect=Preference.IGNORE)
    assert choose(node(*devices), want(2), policy=easy) == ["gpu-0", "gpu-1"]


def test_a_required_link_is_never_broken() -> None:
    devices = [make_gpu("gpu-0", domain="a"), make_gpu("gpu-1", domain="b")]
    strict = Policy(interconnect=Preference.REQUIRE)
    assert choose(node(*devices), want(2)) == ["gpu-0", "gpu-1"]
    assert choose(node(*devices), want(2), policy=strict) is None
    assert choose(node(*devices), want(1), policy=strict) == ["gpu-0"]


def test_gpus_without_a_domain_cannot_satisfy_a_required_link_together() -> None:
    strict = Policy(interconnect=Preference.REQUIRE)
    assert choose(node(make_gpu("gpu-0"), make_gpu("gpu-1")), want(2), policy=strict) is None
    assert choose(node(make_gpu("gpu-0")), want(1), policy=strict) == ["gpu-0"]


def test_a_network_interface_is_no_part_of_a_required_link_but_of_a_required_numa_node() -> None:
    snapshot = node(make_gpu("gpu-0", domain="a", numa=0), nics=[make_gpu("nic-0", kind="", memory="", numa=1)])
    pair = make_claim("new", ask("gpu", "gpu"), ask("nic", "nic"))
    assert choose(snapshot, pair, policy=Policy(interconnect=Preference.REQUIRE)) == ["gpu-0", "nic-0"]
    assert choose(snapshot, pair, policy=Policy(numa=Preference.REQUIRE)) is None


def test_a_gpu_gets_the_network_interface_under_its_own_root() -> None:
    devices = [make_gpu("gpu-0", root="r0"), make_gpu("gpu-1", root="r1")]
    snapshot = node(*devices, nics=[nic("nic-0", "r1"), nic("nic-1", "r2")])
    assert choose(snapshot, make_claim("new", ask("gpu", "gpu"), ask("nic", "nic"))) == ["gpu-1", "nic-0"]
    assert choose(snapshot, make_claim("a", ask("r", "gpu")), make_claim("b", ask("r", "nic"))) == ["gpu-1", "nic-0"]


def test_an_earlier_alternative_is_better_than_a_better_link() -> None:
    linked = [make_gpu(f"gpu-{index}", domain="c", memory="80Gi") for index in range(2)]
    snapshot = node(make_gpu("gpu-2", domain="a"), make_gpu("gpu-3", domain="b"), *linked)
    small = 'device.capacity["accel-dra.dev"].memory.compareTo(quantity("40Gi")) == 0'
    first, second = (ask("r", "gpu", count=2, selectors=each).exactly for each in ([small], []))
    assert first is not None
    assert second is not None
    alternatives = tuple(msgspec.structs.replace(each, name=name) for each, name in ((first, "x"), (second, "y")))
    assert choose(snapshot, make_claim("new", Request(name="r", first_available=alternatives))) == ["gpu-2", "gpu-3"]
    assert choose(snapshot, want(2)) == ["gpu-0", "gpu-1"]


def test_the_smallest_device_that_fits_is_taken() -> None:
    devices = [make_gpu("gpu-0", memory="80Gi"), make_gpu("gpu-1", memory="40Gi")]
    assert choose(node(*devices), want()) == ["gpu-1"]


def test_a_small_partition_goes_to_the_gpu_that_is_broken_up_already() -> None:
    snapshot = node(*make_partitions(make_gpu("gpu0")), *make_partitions(make_gpu("gpu1")))
    assert choose(hold(snapshot, "gpu1-2g-0"), want(1, "partition", one=ONE_G)) == ["gpu1-1g-2"]


def test_a_small_partition_goes_where_a_large_one_stays_possible() -> None:
    snapshot = hold(node(*make_partitions(make_gpu("gpu0"))), "gpu0-1g-0")
    assert choose(snapshot, want(1, "partition", one=ONE_G)) == ["gpu0-1g-1"], "2g at 2 stays possible"


def test_a_whole_gpu_comes_from_the_domain_that_is_used_most() -> None:
    devices = [make_gpu(f"gpu-{index}", domain="a" if index < 2 else "b") for index in range(4)]
    assert choose(hold(node(*devices), "gpu-2"), want()) == ["gpu-3"]


def test_a_gpu_without_links_is_given_before_one_with() -> None:
    assert choose(node(make_gpu("gpu-0", domain="a"), make_gpu("gpu-1")), want()) == ["gpu-1"]


def test_a_share_comes_from_the_device_with_least_room() -> None:
    policy = CapacityPolicy(default="4Gi")
    devices = [
        msgspec.structs.replace(
            make_gpu(f"gpu-{index}"),
            capacity={"memory": Capacity(value="16Gi", request_policy=policy)},
            allow_multiple_allocations=True,
        )
        for index in range(2)
    ]
    snapshot = node(*devices)
    for number, expected in enumerate(["gpu-0"] * 4 + ["gpu-1"] * 4):
        claim = make_claim(f"c{number}", ask("r", "shared"))
        outcome = allocate_best(snapshot, NODE, [claim], [POLICY])
        assert isinstance(outcome, Allocated)
        assert outcome.allocations[0].devices.results[0].device == expected
        snapshot = snapshot.with_claims(
            msgspec.structs.replace(claim, status=ClaimStatus(allocation=outcome.allocations[0]))
        )


def test_constraints_of_the_claim_hold_whatever_is_better() -> None:
    devices = [
        make_gpu("gpu-0", domain="a", root="r0"),
        make_gpu("gpu-1", domain="a", root="r1"),
        make_gpu("gpu-2", root="r0"),
    ]
    rule = Constraint(match_attribute="resource.kubernetes.io/pcieRoot")
    assert choose(node(*devices), make_claim("new", ask("r", "gpu", count=2), constraints=[rule])) == ["gpu-0", "gpu-2"]


def test_a_device_whose_selector_fails_does_no_harm_if_another_serves() -> None:
    devices = [make_gpu("gpu-0"), make_gpu("gpu-1", domain="a")]
    linked = 'device.attributes["accel-dra.dev"].interconnectDomain == "a"'
    assert choose(node(*devices), want(1, one=linked)) == ["gpu-1"]
    with pytest.raises(InvalidClaim):
        choose(node(make_gpu("gpu-0")), want(1, one=linked))


def test_a_search_that_is_cut_short_gives_the_best_that_it_saw() -> None:
    devices = [make_gpu(f"gpu-{index:02}", numa=index % 5, root=f"r{index}") for index in range(16)]
    snapshot = node(*devices, nics=[nic(f"nic-{index}", f"r{index}") for index in range(8)])
    claim = make_claim("new", ask("gpu", "gpu", count=8), ask("nic", "nic", count=4))
    question = make_question([claim], [POLICY], CLASSES)
    found = find_best(pose(snapshot, Place(snapshot.pools.gather(NODE)), question), 50)
    assert found is not None
    assert not found.is_proven
    assert found.steps <= 60


def test_claims_for_more_devices_than_are_searched_for_get_what_first_fit_gives() -> None:
    snapshot = node(*(make_gpu(f"gpu-{index:03}") for index in range(192)))
    claims = [make_claim(f"c{number}", ask("r", "gpu", count=32)) for number in range(6)]
    assert choose(snapshot, *claims) == [f"gpu-{index:03}" for index in range(192)]


@EXAMPLES
@given(clusters.problems())
def test_best_fit_finds_something_wherever_first_fit_does(problem: clusters.Problem) -> None:
    check_against_first_fit(problem.snapshot, clusters.NODE, problem.claims)


@EXAMPLES
@given(neighbourhoods.problems())
def test_best_fit_finds_something_on_nodes_that_are_used(problem: neighbourhoods.Problem) -> None:
    check_against_first_fit(problem.snapshot, NODE, problem.claims)


def check_against_first_fit(snapshot: Snapshot, where: NodeView, claims: Sequence[Claim]) -> None:
    """Both find something or neither does, unless first-fit met a device whose selector fails; and it is valid."""
    try:
        first = allocate(snapshot, where, claims)
    except InvalidClaim:
        return
    best = allocate_best(snapshot, where, claims, [POLICY] * len(claims))
    assert type(best) is type(first)
    if isinstance(best, Allocated):
        assert best == allocate_best(snapshot, where, claims, [POLICY] * len(claims))
        world = World(where, snapshot.slices, snapshot.classes, snapshot.allocated)
        assert check(world, claims, best.allocations) == []
