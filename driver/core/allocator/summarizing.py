"""Reports of many nodes into one sentence: nodes with the same reason together, the most frequent first.

Called by `explaining`. Deterministic: the order of the nodes makes no difference. The sentence fits into an Event.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from driver.core.allocator import wording
from driver.core.allocator.reasons import Blocked, Code, Explanation, Group, NodeReport, Reason

MAX_MESSAGE: Final = 1024
"""Bytes of an Event's message (events.k8s.io/v1, note)."""


def summarize(reports: Sequence[NodeReport], limit: int = MAX_MESSAGE) -> Explanation:
    """Return why none of the nodes can give the devices. On each node the first request that is blocked counts."""
    fatal = [report for report in reports if report.is_fatal]
    if fatal:
        return _explain_fatal(fatal)
    if not reports:
        return Explanation("there are no nodes")
    groups = _group([(report.node, report.blocked[0]) for report in reports if report.blocked])
    everything = _group([(report.node, each) for report in reports for each in report.blocked])
    return Explanation(_write(groups, limit), tuple(groups), _codes(everything))


def _explain_fatal(fatal: Sequence[NodeReport]) -> Explanation:
    """What is wrong with the claim itself is wrong everywhere."""
    blocked = fatal[0].blocked[0]
    nodes = tuple(sorted(report.node for report in fatal))
    return Explanation(
        shorten(blocked.reason.text, MAX_MESSAGE),
        (Group(blocked, nodes),),
        {(blocked.claim, blocked.request): blocked.reason.code},
    )


def _group(found: Iterable[tuple[str, Blocked]]) -> list[Group]:
    """Group nodes by what is blocked and why; holders and nearest miss of a group are those of all its nodes."""
    alike: dict[Blocked, list[tuple[str, Reason]]] = defaultdict(list)
    for node, blocked in found:
        alike[replace(blocked, reason=_generalize(blocked.reason))].append((node, blocked.reason))
    groups = [
        Group(replace(key, reason=_join([reason for _, reason in each])), tuple(sorted({node for node, _ in each})))
        for key, each in alike.items()
    ]
    return sorted(groups, key=lambda group: (-len(group.nodes), group.blocked.request, group.blocked.reason.text))


def _generalize(reason: Reason) -> Reason:
    """Return a reason without what may differ among nodes of a group."""
    if reason.shortfall is None:
        return replace(reason, holders=())
    return replace(reason, holders=(), text="", shortfall=replace(reason.shortfall, value=0))


def _join(reasons: Sequence[Reason]) -> Reason:
    """Return one reason for nodes of a group: the nearest miss of all, and everybody who holds something."""
    holders = tuple(sorted({name for reason in reasons for name in reason.holders}))
    nearest, *others = {reason.shortfall: reason for reason in reasons}.values()
    for reason in others:
        if reason.shortfall and nearest.shortfall and reason.shortfall.is_nearer(nearest.shortfall):
            nearest = reason
    if not others or nearest.shortfall is None:
        return replace(nearest, holders=holders)
    source = f" ({nearest.source})" if nearest.source else ""
    text = f"{nearest.shortfall.describe(is_one_of_many=True)}{source}"
    return replace(nearest, text=text, holders=holders)


def _codes(groups: Iterable[Group]) -> Mapping[tuple[str, str], Code]:
    codes: dict[tuple[str, str], Code] = {}
    for group in groups:
        codes.setdefault((group.blocked.claim, group.blocked.request), group.blocked.reason.code)
    return codes


def _write(groups: Sequence[Group], limit: int) -> str:
    """Write a part for every request, and in it one for every reason, as many as fit."""
    by_request: dict[tuple[str, str, str], list[Group]] = defaultdict(list)
    for group in groups:
        by_request[group.blocked.claim, group.blocked.request, group.blocked.wanted].append(group)
    several = len({claim for claim, _, _ in by_request}) > 1
    text = ""
    written = 0
    for (claim, request, wanted), found in by_request.items():
        head = _head(claim if several else "", request, wanted)
        for position, group in enumerate(found):
            part = f"{'; ' if text else ''}{'' if position else head}{_describe(group)}"
            rest = sum(len(each.nodes) for each in groups[written + 1 :])
            reserve = len(_more(rest)) if rest else 0
            if len((text + part).encode()) + reserve > limit:
                return shorten(text + _more(sum(len(each.nodes) for each in groups[written:])) if text else part, limit)
            text += part
            written += 1
    return text


def _head(claim: str, request: str, wanted: str) -> str:
    where = f" of claim {claim}" if claim else ""
    noun = "requests" if "," in request else "request"
    return f"no node can give {noun} {request}{where} {wanted}: "


def _describe(group: Group) -> str:
    held = wording.listed(group.blocked.reason.holders)
    return (
        f"{wording.count(len(group.nodes), 'node')}: {group.blocked.reason.text}{f', held by {held}' if held else ''}"
    )


def _more(nodes: int) -> str:
    return f"; {wording.count(nodes, 'node')}: other reasons"


def shorten(text: str, limit: int) -> str:
    """Return a text of at most so many bytes; what is cut off is replaced by an ellipsis."""
    encoded = text.encode()
    if len(encoded) <= limit:
        return text
    return encoded[: limit - len("…".encode())].decode(errors="ignore") + "…"
