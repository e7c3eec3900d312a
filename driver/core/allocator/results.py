"""Devices found into the words of the API: one Allocation a claim, ready to write but for its timestamp.

Called by `allocating`. Configuration is assembled as Kubernetes v1.36.2 does it: class configurations once a class with
the names of all its requests, claim configurations once for every request that they are for.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final
from uuid import UUID, uuid5

from driver.core.allocator.nodes import NodeView
from driver.core.allocator.outcomes import InvalidClaim
from driver.core.allocator.requests import CompiledClaim, Wanted
from driver.core.allocator.tracking import Taken
from driver.model import quantities
from driver.model.claims import (
    SOURCE_CLAIM,
    SOURCE_CLASS,
    Allocation,
    AllocationConfiguration,
    AllocationResult,
    DeviceAllocation,
)
from driver.model.selection import NodeSelector, Requirement, Term

_SHARES: Final = UUID("5b0c58a2-6f64-4b5c-9d4a-8a6a53b1d0c5")
"""Namespace of share ids (RFC 4122, version 5)."""


def describe(claim: CompiledClaim, ranks: Sequence[int], taken: Sequence[Taken], node: NodeView) -> Allocation:
    """Return the allocation of a claim: `ranks` are its chosen alternatives, `taken` its devices, both in order.

    Raises `InvalidClaim` if a device's node selector has more than one term, which the API cannot express here.
    """
    chosen = [slot.alternatives[rank] for slot, rank in zip(claim.slots, ranks, strict=True)]
    return Allocation(
        devices=DeviceAllocation(
            results=tuple(_result(claim, index, each) for index, each in enumerate(taken)),
            config=(*_class_config(chosen), *_claim_config(claim, chosen)),
        ),
        node_selector=_select_nodes(taken, node),
    )


def _result(claim: CompiledClaim, index: int, taken: Taken) -> AllocationResult:
    wanted, published = taken.wanted, taken.device.published
    driver, pool, device = taken.device.id
    return AllocationResult(
        request=wanted.name,
        driver=driver,
        pool=pool,
        device=device,
        admin_access=True if wanted.admin_access else None,
        share_id=None if taken.consumed is None else share_id(claim, index),
        consumed_capacity={name: quantities.canonical(amount) for name, amount in (taken.consumed or {}).items()},
        tolerations=wanted.source.tolerations,
        binding_conditions=published.binding_conditions,
        binding_failure_conditions=published.binding_failure_conditions,
    )


def share_id(claim: CompiledClaim, index: int) -> str:
    """Return the share id of a result. It follows from the claim's UID: asking again gives the same."""
    return str(uuid5(_SHARES, f"{claim.claim.metadata.uid or claim.claim}/{index}"))


def _class_config(chosen: Sequence[Wanted]) -> Iterable[AllocationConfiguration]:
    names: dict[str, list[str]] = {}
    for wanted in chosen:
        names.setdefault(wanted.source.device_class_name, []).append(wanted.name)
    classes = {wanted.source.device_class_name: wanted.device_class for wanted in chosen}
    for name, requests in names.items():
        for config in classes[name].spec.config:
            yield AllocationConfiguration(source=SOURCE_CLASS, requests=tuple(requests), opaque=config.opaque)


def _claim_config(claim: CompiledClaim, chosen: Sequence[Wanted]) -> Iterable[AllocationConfiguration]:
    for config in claim.claim.spec.devices.config:
        times = sum(_is_for(config.requests, wanted.name) for wanted in chosen) if config.requests else 1
        for _ in range(times):
            yield AllocationConfiguration(source=SOURCE_CLAIM, requests=config.requests, opaque=config.opaque)


def _is_for(requests: Sequence[str], name: str) -> bool:
    return name in requests or name.partition("/")[0] in requests


def _select_nodes(taken: Sequence[Taken], node: NodeView) -> NodeSelector | None:
    """Return the nodes on which all devices can be used: this one, or those that every device's selector allows."""
    fields: list[Requirement] = []
    expressions: list[Requirement] = []
    for each in taken:
        if each.device.node_name or each.device.published.binds_to_node:
            here = Requirement(key="metadata.name", operator="In", values=(node.name,))
            return NodeSelector(node_selector_terms=(Term(match_fields=(here,)),))
        selector = each.device.node_selector
        terms = selector.node_selector_terms if selector else ()
        if len(terms) > 1:
            raise InvalidClaim(f"device {each.device}: a node selector with {len(terms)} terms cannot be allocated")
        for term in terms:
            _merge(fields, term.match_fields)
            _merge(expressions, term.match_expressions)
    if not fields and not expressions:
        return None
    term = Term(match_fields=tuple(fields), match_expressions=tuple(expressions))
    return NodeSelector(node_selector_terms=(term,))


def _merge(known: list[Requirement], found: Iterable[Requirement]) -> None:
    """Add requirements that are not there yet; the order of values makes no difference."""
    for each in found:
        same = (each.key, each.operator, set(each.values))
        if all((other.key, other.operator, set(other.values)) != same for other in known):
            known.append(each)
