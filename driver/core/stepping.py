"""Steps that claims share: which one is taken over, which may be undone. The reference counting of hardware changes.

Called by `node.transactions` with the records in hand, so that nobody else changes them meanwhile. A step with a key
stands in the record of every claim that depends on it; the records are the count, and nothing else has to be kept true.
Promises that a shared change is made once, that each claim knows what undoing it needs, that two claims never want
different things of it, and that it is undone with the last claim and not before.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from driver.model.errors import StepContested, StepRefused
from driver.model.prepared import BEFORE, UUID, ClaimRef, Phase, Record, Step


def share(planned: Sequence[Step], uid: str, records: Iterable[Record], boot_id: str) -> tuple[Step, ...]:
    """Return the steps of the claim `uid`, where others have the same change as it stands in their records.

    So the values from before it was made are those of the claim that made it. A change that two devices of the claim
    depend on is one step, at its first place. Raises `StepContested` if another claim has it with other arguments,
    `StepRefused` if the claim itself wants two things of it.
    """
    others = [record for record in records if record.uid != uid]
    steps: list[Step] = []
    own: dict[str, Step] = {}
    for step in planned:
        if not step.key:
            steps.append(step)
            continue
        first = own.get(step.key)
        if first is None:
            own[step.key] = step
            steps.append(_take_over(step, others, boot_id))
        elif difference := _differ(step, first):
            raise StepRefused(step.name, f"this claim wants {difference[0]}, and for another device {difference[1]}")
    return tuple(steps)


def is_held(step: Step, record: Record, records: Iterable[Record], boot_id: str) -> bool:
    """Say whether a step of `record` must not be undone, because another claim has the same change.

    A claim from before the last boot has nothing running: it holds nothing that was made since.
    """
    return bool(step.key) and any(
        other.uid != record.uid
        and _find(step.key, other) is not None
        and (other.boot_id == boot_id or record.boot_id != boot_id)
        for other in records
    )


def spread(step: Step, uid: str, records: Iterable[Record], boot_id: str) -> tuple[Record, ...]:
    """Return the records of other claims that have this change with other facts, with those it has now."""
    if not step.key:
        return ()
    return tuple(
        msgspec.structs.replace(
            record,
            steps=tuple(_with_facts(old, step.facts) if old.key == step.key else old for old in record.steps),
        )
        for record in records
        if record.uid != uid and record.boot_id == boot_id and _has_other_facts(record, step)
    )


def replace_identities(texts: Mapping[str, msgspec.Raw], old: Sequence[Step], new: Sequence[Step]) -> dict[str, bytes]:
    """Return documents with the identities that steps have learnt anew instead of those of before, by name.

    Identities only (`prepared.UUID`): the words of other facts, such as numbers and modes, stand for other things, too.
    """
    before = {_identify(step): step.facts.get(UUID, "") for step in old}
    pairs = [(before.get(_identify(step), ""), step.facts.get(UUID, "")) for step in new]
    changed = {was.encode(): now.encode() for was, now in pairs if was and now and was != now}
    return {name: _substitute(bytes(text), changed) for name, text in texts.items()}


def _take_over(step: Step, others: Sequence[Record], boot_id: str) -> Step:
    """Return the step as the best of the other records has it: this boot's before older ones, complete before not."""
    holders = [(record, found) for record in others if (found := _find(step.key, record)) is not None]
    for record, found in holders:
        if difference := _differ(step, found):
            holder = str(ClaimRef(record.namespace, record.name, record.uid))
            raise StepContested(step.name, *difference, holder)
    facts = dict(step.facts)
    for record, found in sorted(holders, key=lambda pair: _rank(pair[0], boot_id), reverse=True):
        facts |= {name: value for name, value in found.facts.items() if _is_true(name, step, record, boot_id)}
    return _with_facts(step, facts)


def _rank(record: Record, boot_id: str) -> int:
    """Return how far a record's facts can be trusted, 0 the most."""
    if record.boot_id != boot_id:
        return 2
    return 0 if record.phase is Phase.PREPARED else 1


def _is_true(name: str, step: Step, record: Record, boot_id: str) -> bool:
    """Say whether a fact of another record holds for us.

    What was there before the change holds for ever. What was found when it was planned holds during this boot. What was
    learnt when it was run holds while the other claim is prepared: else it may have been undone meanwhile.
    """
    rank = _rank(record, boot_id)
    return rank == 0 or name.startswith(BEFORE) or (rank == 1 and name in step.facts)


def _find(key: str, record: Record) -> Step | None:
    return next((step for step in record.steps if step.key == key), None)


def _differ(step: Step, other: Step) -> tuple[str, str] | None:
    """Return what the step wants and what the other has instead, in words; None if they agree."""
    if step.name != other.name:
        return step.name, other.name
    wanted = {name: value for name, value in step.arguments.items() if other.arguments.get(name) != value}
    if not wanted:
        return None
    has = {name: other.arguments.get(name, "") for name in wanted}
    return _spell(wanted), _spell(has)


def _spell(arguments: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {value or 'unset'}" for name, value in sorted(arguments.items()))


def _has_other_facts(record: Record, step: Step) -> bool:
    found = _find(step.key, record)
    return found is not None and found.facts != step.facts


def _with_facts(step: Step, facts: Mapping[str, str]) -> Step:
    return msgspec.structs.replace(step, facts=dict(facts))


def _identify(step: Step) -> tuple[str, str, tuple[tuple[str, str], ...]]:
    return step.name, step.key, tuple(sorted(step.arguments.items()))


def _substitute(text: bytes, changed: Mapping[bytes, bytes]) -> bytes:
    for old, new in changed.items():
        text = text.replace(old, new)
    return text
