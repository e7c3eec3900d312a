"""Writes the scenarios on published slices: `python -m hack.replay.scenarios FOLDER`.

The slices of each machine go to FOLDER/machines, the scenarios to FOLDER/published.jsonl, one JSON object a line. That
is the input of vectors: what Kubernetes makes of it is recorded with its own code, and tests/vectors holds the result.
The same code writes the same scenarios.
"""

from __future__ import annotations

import gzip
import json
import sys
from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path
from random import Random
from typing import Final

from driver.core import counting
from driver.model.slices import Device
from hack.replay.published import (
    LINKED,
    MACHINES,
    MEMORY,
    NUMA,
    OWN,
    PARENT,
    SHARE,
    Bench,
    Json,
    at_least,
    claim,
    hold,
    make_slices,
    part,
    want,
)

_RANDOM: Final = 40
"""Random scenarios a machine."""
_PROFILES: Final = ("1g.10gb", "1g.10gb+me", "1g.20gb", "2g.20gb", "3g.40gb", "4g.40gb", "7g.80gb")
_ALL: Final = "All"


def pose_partitions(bench: Bench) -> Iterator[Json]:
    """Yield scenarios on devices that offer nothing but partitions."""
    pose, first = bench.pose, bench.wholes[0]
    for profile, most in zip(_PROFILES, (7, 1, 4, 3, 2, 1, 1), strict=True):
        total = min(32, 8 * most)
        yield pose(f"{profile}: as many as there are, or as a claim may have", claim("c", part(profile, total)))
        if total < 32:
            yield pose(f"{profile}: one more than there are", claim("c", part(profile, total + 1)))
    yield pose("33 devices are too many", claim("c", part("1g.10gb", 20), part("1g.10gb", 13)))
    mixed = (part("3g.40gb"), part("2g.20gb"), part("1g.10gb", 2))
    yield pose("mixed on one device", claim("c", *mixed, match=PARENT))
    yield pose("two claims of the same mix", claim("a", *mixed, match=PARENT), claim("b", *mixed, match=PARENT))
    yield pose("two halves of one device", claim("c", part("3g.40gb", 2), match=PARENT))
    yield pose("4g and 3g of one device", claim("c", part("4g.40gb"), part("3g.40gb"), match=PARENT))
    yield pose("two 4g of one device", claim("c", part("4g.40gb", 2), match=PARENT))
    yield pose("seven 1g and one more of one device", claim("c", part("1g.10gb", 8), match=PARENT))
    yield pose("one for each device", claim("c", part("3g.40gb", 8), distinct=PARENT))
    yield pose("one for each of nine devices", claim("c", part("3g.40gb", 9), distinct=PARENT))
    yield pose("eight at one NUMA node", claim("c", part("3g.40gb", 8), match=NUMA))
    yield pose("nine at one NUMA node", claim("c", part("3g.40gb", 9), match=NUMA))
    yield pose("all of them exclude each other", claim("c", want("partition", mode=_ALL)))
    yield pose("all 7g", claim("c", want("partition", f'{OWN}.profile == "7g.80gb"', mode=_ALL)))
    yield pose("no whole device is offered", claim("c", want("gpu")))
    for memory in ("9Gi", "19Gi", "20Gi", "39Gi", "70Gi", "80Gi"):
        yield pose(f"at least {memory}", claim("c", want("partition", at_least(memory), count=3)))
    small, large = want("partition", at_least("20Gi")), want("partition", at_least("70Gi"))
    yield pose("the first of several sizes", claim("c", [large, small, want("partition")]))
    ones = [hold(f"h{number}", f"{whole}-1g-10gb-3") for number, whole in enumerate(bench.wholes)]
    yield pose("a small one on each device leaves no large one", claim("c", large), allocated=ones)
    yield pose("so the second of several sizes is taken", claim("c", [large, small]), allocated=ones)
    yield pose("the half that is left on each device", claim("c", part("3g.40gb", 8)), allocated=ones)
    yield pose("and not one more", claim("c", part("3g.40gb", 9)), allocated=ones)
    yield pose("4g begins at 0 only", claim("c", part("4g.40gb")), allocated=ones)
    whole = [hold(f"h{number}", f"{name}-7g-80gb-0") for number, name in enumerate(bench.wholes[1:])]
    yield pose("one device is left", claim("c", part("1g.20gb", 4)), allocated=whole)
    yield pose("one device is left and not enough", claim("c", part("1g.20gb", 5)), allocated=whole)
    yield pose("the engine of one device is taken", claim("c", part("1g.10gb+me", 8)), allocated=ones[:1])
    extended = [hold("h", f"{first}-1g-10gb-me-6")]
    yield pose("an extended one is beside plain ones", claim("c", part("1g.10gb", 6), match=PARENT), allocated=extended)
    yield pose("seven extended ones of the others", claim("c", part("1g.10gb+me", 7)), allocated=extended)
    yield pose("and not eight", claim("c", part("1g.10gb+me", 8)), allocated=extended)
    looked = {**part("7g.80gb"), "adminAccess": True}
    yield pose("admin access beside a claim", claim("c", looked), allocated=whole)


def pose_wholes(bench: Bench) -> Iterator[Json]:
    """Yield scenarios on devices that can be had whole or in partitions."""
    pose = bench.pose
    last = len(bench.wholes)
    yield pose("all whole devices by number", claim("c", want("gpu", count=last)))
    yield pose("one more", claim("c", want("gpu", count=last + 1)))
    yield pose("all whole devices", claim("c", want("gpu", mode=_ALL)))
    yield pose("all whole devices leave no partition", claim("c", want("gpu", count=last), part("1g.10gb")))
    yield pose("partitions of the one that is left", claim("c", want("gpu", count=last - 1), part("1g.10gb", 7)))
    yield pose("eight of them need two", claim("c", want("gpu", count=last - 1), part("1g.10gb", 8)))
    yield pose("partitions first", claim("c", part("1g.10gb"), want("gpu", count=last - 1)))
    yield pose("partitions first, and too many devices", claim("c", part("1g.10gb"), want("gpu", count=last)))
    yield pose("two claims, whole and part", claim("a", want("gpu", count=last - 1)), claim("b", part("7g.80gb")))
    yield pose("two claims for everything", claim("a", want("gpu", count=last)), claim("b", part("1g.10gb")))
    ones = [hold(f"h{number}", f"{name}-1g-10gb-{number % 7}") for number, name in enumerate(bench.wholes[:-1])]
    yield pose("a small one on all but one", claim("c", want("gpu")), allocated=ones)
    yield pose("a small one on all but one, and two", claim("c", want("gpu", count=2)), allocated=ones)
    yield pose("a small one on one, and all", claim("c", want("gpu", mode=_ALL)), allocated=ones[:1])
    yield pose("whole or half", claim("c", [want("gpu", count=2), part("3g.40gb", 2)]), allocated=ones)
    wholes = [hold(f"h{number}", name) for number, name in enumerate(bench.wholes)]
    yield pose("everything is taken", claim("c", part("1g.10gb")), allocated=wholes)
    yield pose("everything but one", claim("c", part("2g.20gb", 3), part("1g.10gb")), allocated=wholes[1:])
    yield pose("everything but one, too many", claim("c", part("2g.20gb", 4)), allocated=wholes[1:])
    yield pose("linked whole devices", claim("c", want("gpu", count=8), match=LINKED))
    yield pose("partitions have no links", claim("c", want("partition", count=2), match=LINKED))
    yield pose("at one NUMA node", claim("c", want("gpu", count=4), match=NUMA))
    yield pose("at one NUMA node, too many", claim("c", want("gpu", count=5), match=NUMA))
    yield pose("whole and part at one NUMA node", claim("c", want("gpu", count=3), part("3g.40gb", 2), match=NUMA))
    yield pose("70Gi of any kind", claim("c", want("partition", at_least("70Gi"), count=2), want("gpu", count=2)))
    yield pose("by compute", claim("c", want("partition", 'device.capacity["accel-dra.dev"].multiprocessors.'
                                             'compareTo(quantity("60")) >= 0', count=5)))  # fmt: skip
    tolerant = {**want("gpu", count=2), "tolerations": [{"key": "accel-dra.dev/unhealthy", "operator": "Exists"}]}
    yield pose("a toleration that nothing needs", claim("c", tolerant))


def pose_shares(bench: Bench) -> Iterator[Json]:
    """Yield scenarios on devices of which several claims may have shares."""
    pose, first = bench.pose, bench.wholes[0]

    def share(memory: str = "", percent: str = "", kind: str = "shared", count: int = 1) -> Json:
        capacity = {MEMORY: memory} if memory else {}
        return want(
            kind, f'{OWN}.type == "gpu"', count=count, capacity=capacity | ({SHARE: percent} if percent else {})
        )

    yield pose("a share", claim("c", share("20Gi", "25")))
    yield pose("nothing said is all of it", claim("a", share()), claim("b", share("1Gi", "1")))
    yield pose("shares of two requests", claim("c", share("20Gi", "25"), share("20Gi", "25")))
    yield pose("one request takes a share of each device", claim("c", share("20Gi", "25", count=3)))
    yield pose("steps are rounded up", claim("c", share("1500500Ki", "7")))
    yield pose("less than the least", claim("c", share("1Mi", "1")))
    yield pose("more than there is", claim("c", share("100Gi", "1")))
    yield pose("more than all percent", claim("c", share("1Gi", "101")))
    four = [share("15Gi", "25") for _ in range(4)]
    yield pose("four quarters are a device", claim("c", *four))
    yield pose("the fifth goes to the next", claim("c", *four, share("15Gi", "25")))
    yield pose("memory runs out first", claim("c", share("50Gi", "10"), share("50Gi", "10")))
    taken = {MEMORY: "20Gi", SHARE: "50"}
    held = [hold("h", shares={first: taken})]
    yield pose("beside a share that is held", claim("c", share("20Gi", "50")), allocated=held)
    yield pose("too much beside a share", claim("c", share("20Gi", "51")), allocated=held)
    yield pose("all of a device beside a share", claim("c", share(kind="gpu")), allocated=held)
    yield pose("a share leaves no partition", claim("c", part("1g.10gb", 7), match=PARENT), allocated=held)
    yield pose("all devices, one has a share", claim("c", want("gpu", mode=_ALL)), allocated=held)
    every = [hold(f"h{number}", shares={name: taken}) for number, name in enumerate(bench.wholes)]
    yield pose("a share on each leaves no partition at all", claim("c", part("1g.10gb")), allocated=every)
    yield pose("a share on each leaves shares", claim("c", share("20Gi", "50", count=8)), allocated=every)
    half = f"{first}-3g-40gb-0"
    parts = [hold("h", shares={half: {MEMORY: "10Gi", SHARE: "30"}})]
    of_half = want("shared", f'{OWN}.profile == "3g.40gb"', capacity={MEMORY: "10Gi", SHARE: "30"})
    yield pose("a second share of a partition", claim("c", of_half), allocated=parts)
    yield pose("three shares of partitions", claim("c", of_half, of_half, of_half), allocated=parts)
    yield pose("a partition takes its counters once", claim("c", part("3g.40gb"), part("1g.10gb")), allocated=parts)
    yield pose("a share of a partition excludes the whole device", claim("c", want("gpu", count=8)), allocated=parts)
    yield pose("and leaves seven", claim("c", want("gpu", count=7)), allocated=parts)
    yield pose("a share of anything", claim("c", want("shared", capacity={MEMORY: "5Gi", SHARE: "50"}, count=4)))
    yield pose("a share or a partition", claim("c", [share("90Gi"), part("7g.80gb")]))
    yield pose("a capacity that no device has", claim("c", want("shared", capacity={"accel-dra.dev/lanes": "1"})))


def pose_at_random(bench: Bench, seed: int) -> Iterator[Json]:
    """Yield random claims beside random claims that hold something."""
    random = Random(seed)
    names = count()
    for _ in range(_RANDOM):
        allocated = [hold(f"h{next(names)}", device.name) for device in _pick(bench, random)]
        claims = [_draw_claim(bench, random, f"c{next(names)}") for _ in range(random.randint(1, 2))]
        yield bench.pose(f"at random, {len(allocated)} devices are held", *claims, allocated=allocated)


def _pick(bench: Bench, random: Random) -> Iterator[Device]:
    """Yield random devices that can be held together."""
    left = {made.name: counting.read(made.counters) for made in bench.found.counter_sets}
    devices = [entry.device for entry in bench.found.entries if not entry.device.allow_multiple_allocations]
    for device in random.sample(devices, min(len(devices), random.choice((0, 10, 40, 90)))):
        (draw,) = device.consumes_counters
        wanted = counting.read(draw.counters)
        if counting.fits(wanted, left[draw.counter_set]):
            left[draw.counter_set] = counting.subtract(left[draw.counter_set], wanted)
            yield device


def _draw_claim(bench: Bench, random: Random, name: str) -> Json:
    """Return a claim for a few devices, now and then with alternatives and a constraint."""
    requests = [
        [_draw_request(bench, random), _draw_request(bench, random)] if random.random() < 0.25 else
        _draw_request(bench, random)
        for _ in range(random.randint(1, 3))
    ]  # fmt: skip
    match = random.choice(("", "", PARENT, NUMA))
    if match == PARENT and "h100" in bench.machine and random.random() < 0.5:
        match = LINKED
    return claim(name, *requests, match=match)


def _draw_request(bench: Bench, random: Random) -> Json:
    kinds = ["profile", "memory"] + ([] if "partitions" in bench.machine else ["gpu"])
    kind = random.choice(kinds)
    number = random.choice((1, 1, 1, 2, 3, 5))
    capacity = None
    if "shares" in bench.machine and random.random() < 0.7:
        capacity = {MEMORY: random.choice(("2Gi", "6Gi", "9Gi")), SHARE: random.choice(("20", "50"))}
    if kind == "profile":
        return part(random.choice(_PROFILES), number, capacity=capacity)
    if kind == "memory":
        return want("partition", at_least(random.choice(("15Gi", "30Gi", "60Gi"))), count=number, capacity=capacity)
    return want("gpu", count=number, capacity=capacity)


def pose_all() -> Iterator[Json]:
    """Yield all scenarios."""
    poses = (pose_partitions, pose_wholes, pose_shares)
    for seed, (machine, pose) in enumerate(zip(MACHINES, poses, strict=True)):
        bench = Bench(machine)
        yield from pose(bench)
        yield from pose_at_random(bench, seed)


def main(arguments: Sequence[str]) -> None:
    """Write machines and scenarios to a folder."""
    folder = Path(arguments[0])
    (folder / "machines").mkdir(parents=True, exist_ok=True)
    for machine in MACHINES:
        text = json.dumps(make_slices(machine), separators=(",", ":")).encode()
        (folder / "machines" / f"{machine}.json.gz").write_bytes(gzip.compress(text, 9, mtime=0))
    lines = (json.dumps(scenario, separators=(",", ":")) for scenario in pose_all())
    (folder / "published.jsonl").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
