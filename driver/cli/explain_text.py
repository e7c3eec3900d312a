"""What `accel-dra explain` prints: a block for each claim, or one JSON document. Decides nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from driver.core import common_traits, drafting, extended
from driver.core.answering import Answer, State
from driver.core.deciding.world import Reason
from driver.model.claims import AllocationResult

_MARKS: Final = {State.ALLOCATED: "✓", State.WOULD_BE_ALLOCATED: "✓", State.WAITING: "✗"}


def show(answers: Sequence[Answer], others: Sequence[str]) -> str:
    """Return the text for a terminal."""
    lines = [line for answer in answers for line in _show(answer)]
    if not answers:
        lines.append("Nothing here asks for devices.")
    if others:
        lines.append(f"Left out, neither claim nor template nor pod: {', '.join(others)}.")
    return "".join(f"{line}\n" for line in lines)


def _show(answer: Answer) -> Iterator[str]:
    pod = answer.pod.metadata.name if answer.pod is not None else ""
    pod = f" for {pod}" if pod.startswith(drafting.IMAGINED) else f" of pod {pod}" if pod else ""
    parts = answer.message.split("; ") if answer.reason != Reason.INVALID_POLICY.value else [answer.message]
    reason = f" ({answer.reason})" if answer.reason else ""
    what = "extended resources" if extended.is_imagined(answer.claim) else f"claim {answer.claim}"
    mark = "✗" if answer.refusals else _MARKS[answer.state]
    yield f"{mark} {what}{pod}: {_SAYS[answer.state]}{reason}"
    for part in parts:
        yield f"    {part}"
    for refusal in answer.refusals:
        yield f"    no pod starts with it: {refusal}"
    if answer.common:
        yield f"    in common: {common_traits.describe_common(answer.common)}"
    for device, left in answer.left.items():
        yield f"    left of {device}: {left}"


_SAYS: Final = {
    State.ALLOCATED: "allocated",
    State.WOULD_BE_ALLOCATED: "would be allocated",
    State.WAITING: "waits",
}


def encode(answers: Sequence[Answer], others: Sequence[str]) -> str:
    """Return one JSON document: `claims` in order, and `others`, the documents that have no devices."""
    document = {"claims": [_describe(answer) for answer in answers], "others": list(others)}
    return msgspec.json.format(msgspec.json.encode(document), indent=2).decode() + "\n"


def _describe(answer: Answer) -> dict[str, object]:
    devices = answer.allocation.devices.results if answer.allocation else ()
    return {
        "namespace": answer.claim.metadata.namespace,
        "name": answer.claim.metadata.name,
        "pod": answer.pod.metadata.name if answer.pod else None,
        "state": answer.state.value,
        "allocator": answer.by.value if answer.by else None,
        "reason": answer.reason or None,
        "message": answer.message,
        "node": answer.node or None,
        "common": dict(answer.common),
        "left": dict(answer.left),
        "refusals": list(answer.refusals),
        "devices": [_describe_device(each) for each in devices],
    }


def _describe_device(result: AllocationResult) -> dict[str, object]:
    share = {"shareID": result.share_id, "consumedCapacity": result.consumed_capacity} if result.share_id else {}
    return {"request": result.request, "driver": result.driver, "pool": result.pool, "device": result.device, **share}
