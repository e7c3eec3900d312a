"""The controller against a real API server: what it allocates, and that kube-scheduler can go on from there."""

from __future__ import annotations

from driver.core.fencing import Authority
from tests.controller.site import GPU, Site
from tests.fakes.waiting import wait_until

CLIQUE = "accel-dra.dev/fabricDomain"


def test_a_pair_of_linked_gpus_is_allocated_and_its_pod_bound(site: Site) -> None:
    site.machine("a")
    site.kubernetes()
    site.controller()
    site.workload("pair", 2)
    devices = site.wait_allocated("pair")
    assert {pool for pool, _ in devices} == {"a"}
    assert len(set(devices)) == 2
    assert site.wait_bound("pair") == "a"


def test_what_is_written_is_what_kube_scheduler_needs(site: Site) -> None:
    site.machine("a")
    site.controller()
    site.workload("c")
    site.wait_allocated("c")
    claim = site.read("c")
    meta, status = claim["metadata"], claim["status"]
    assert isinstance(meta, dict)
    assert isinstance(status, dict)
    assert meta["finalizers"] == ["resource.kubernetes.io/delete-protection"]
    allocation = status["allocation"]
    assert allocation["allocationTimestamp"]
    fields = [{"key": "metadata.name", "operator": "In", "values": ["a"]}]
    assert allocation["nodeSelector"] == {"nodeSelectorTerms": [{"matchFields": fields}]}
    assert allocation["devices"]["results"][0]["driver"] == GPU
    assert "tolerations" not in allocation["devices"]["results"][0]
    assert allocation["devices"]["config"][0]["source"] == "FromClass"
    assert "reservedFor" not in status


def test_devices_of_kube_scheduler_are_left_alone(site: Site) -> None:
    site.machine("theirs", authority=Authority.SCHEDULER)
    site.machine("ours")
    site.controller()
    site.workload("c", 8)
    assert {pool for pool, _ in site.wait_allocated("c")} == {"ours"}
    site.workload("d", 8)
    site.wait_event("ResourceClaim", "d", "NoSuitableDevices")
    assert site.devices("d") == []


def test_claims_that_do_not_ask_are_left_to_kube_scheduler(site: Site) -> None:
    site.machine("theirs", authority=Authority.SCHEDULER)
    site.controller()
    site.workload("plain", class_name=GPU)
    site.workload("asks")
    site.wait_event("ResourceClaim", "asks", "NoSuitableDevices")
    assert site.devices("plain") == []
    site.kubernetes()
    assert site.wait_bound("plain") == "theirs"


def test_many_claims_share_no_device(site: Site) -> None:
    for name in ("a", "b"):
        site.machine(name)
    site.kubernetes()
    for index in range(20):
        site.workload(f"c{index}")
    site.controller()
    wait_until(lambda: sum(bool(site.devices(f"c{index}")) for index in range(20)) == 16, "16 claims")
    devices = [device for index in range(20) for device in site.devices(f"c{index}")]
    assert len(set(devices)) == 16
    winners = [index for index in range(20) if site.devices(f"c{index}")]
    site.delete_pod(f"c{winners[0]}")
    wait_until(lambda: sum(bool(site.devices(f"c{index}")) for index in range(20) if index not in winners) == 1)


def test_a_group_of_four_goes_to_one_domain(site: Site) -> None:
    for name in ("t0", "t1", "t2", "t3"):
        site.machine(name, "nvl72-tray")
    site.kubernetes()
    policy = {"group": {"size": 4, "within": CLIQUE}}
    for index in range(3):
        site.workload(f"g{index}", 4, policy=policy, group="ring")
    controller = site.controller()
    assert "3 of 4 claims" in site.wait_event("ResourceClaim", "g0", "WaitingForGroup")
    assert site.devices("g0") == []
    site.workload("g3", 4, policy=policy, group="ring")
    devices = site.wait_allocated("g0", "g1", "g2", "g3")
    assert len(set(devices)) == 16
    assert {site.wait_bound(f"g{index}") for index in range(4)} == {"t0", "t1", "t2", "t3"}
    assert controller.leads


def test_a_cleared_allocation_goes_elsewhere(site: Site) -> None:
    for name in ("a", "b"):
        site.machine(name)
    site.controller()
    site.workload("c")
    ((first, _),) = site.wait_allocated("c")
    site.clear("c")
    wait_until(lambda: [pool for pool, _ in site.devices("c")] not in ([], [first]), "another node")


def test_what_no_pod_uses_any_more_is_released(site: Site) -> None:
    site.machine("a")
    site.controller()
    site.workload("c")
    site.wait_allocated("c")
    site.delete_pod("c")
    site.wait_free("c")
    wait_until(lambda: not site.finalizers("c"))


def test_a_claim_in_use_is_not_released(site: Site) -> None:
    site.machine("a")
    site.kubernetes()
    site.controller(grace=0.2)
    site.workload("used")
    site.wait_bound("used")
    site.workload("other")
    site.wait_allocated("other")
    assert site.devices("used")


def test_an_immediate_claim_needs_no_pod_and_keeps_its_devices(site: Site) -> None:
    site.machine("a")
    site.controller(grace=0.2)
    site.claim("now", policy={"when": "Immediate"})
    held = site.wait_allocated("now")
    site.workload("c")
    site.wait_allocated("c")
    assert site.devices("now") == held


def test_each_claim_of_kube_scheduler_is_explained_soon_however_lately_the_others_were(site: Site) -> None:
    site.machine("open", authority=Authority.SCHEDULER)
    site.controller(explain_every=0.5)
    for name in ("first", "second", "third"):
        site.workload(name, 9, class_name=GPU)
        assert "8" in site.wait_event("ResourceClaim", name, "NoSuitableDevices")
