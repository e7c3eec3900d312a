"""What is repaired at start: nothing of others, everything of ours."""

from __future__ import annotations

import msgspec

from driver.core.recovery import plan_repairs
from driver.model.prepared import Phase, Record
from tests.fakes.bench import BOOT, DRIVER

SPEC = f"k8s.{DRIVER}-claim_{{}}.json"
METADATA = f"{DRIVER}_metadata_{{}}_gpu.json"


def record(uid: str, phase: Phase = Phase.PREPARED, boot_id: str = BOOT) -> Record:
    files = {SPEC.format(uid): msgspec.Raw(b"{}"), METADATA.format(uid): msgspec.Raw(b"{}")}
    return Record(uid=uid, namespace="default", name=uid, phase=phase, boot_id=boot_id, cdi=files)


def test_nothing_to_do_on_a_clean_node() -> None:
    repairs = plan_repairs(DRIVER, (), (), BOOT, ())
    assert (repairs.remove, repairs.roll_back, repairs.restore, repairs.renew) == ((), (), (), ())


def test_specs_of_prepared_claims_stay() -> None:
    files = [SPEC.format("a"), METADATA.format("a")]
    repairs = plan_repairs(DRIVER, (record("a"),), files, BOOT, ())
    assert repairs.remove == ()
    assert [entry.uid for entry in repairs.restore] == ["a"]


def test_specs_that_belong_to_no_claim_are_removed_and_only_ours() -> None:
    others = [
        "k8s.gpu.nvidia.com-claim_a.json",
        f"k8s.{DRIVER}.org-claim_a.json",
        f"k8s.x{DRIVER}-claim_a.json",
        f"k8s.{DRIVER}-claim_a.yaml",
        f"k8s.{DRIVER}-common.json",
        f"{DRIVER}.json",
        "nvidia.yaml",
        f"k8s.{DRIVER.replace('.', 'x')}-claim_a.json",
    ]
    repairs = plan_repairs(DRIVER, (), [*others, SPEC.format("gone"), METADATA.format("gone")], BOOT, ())
    assert repairs.remove == (METADATA.format("gone"), SPEC.format("gone"))


def test_interrupted_claims_are_rolled_back_and_their_specs_removed() -> None:
    repairs = plan_repairs(DRIVER, (record("a", Phase.PREPARING),), [SPEC.format("a")], BOOT, ())
    assert [entry.uid for entry in repairs.roll_back] == ["a"]
    assert repairs.remove == (SPEC.format("a"),)
    assert repairs.restore == ()


def test_claims_from_before_the_boot_are_renewed_and_their_old_specs_removed() -> None:
    repairs = plan_repairs(DRIVER, (record("a", boot_id="before"),), [SPEC.format("a")], BOOT, ())
    assert [entry.uid for entry in repairs.renew] == ["a"]
    assert repairs.remove == (SPEC.format("a"),)
    assert repairs.restore == ()


def test_specs_of_claims_whose_record_could_not_be_read_stay() -> None:
    repairs = plan_repairs(DRIVER, (), [SPEC.format("a"), SPEC.format("b")], BOOT, {"a"})
    assert repairs.remove == (SPEC.format("b"),)
