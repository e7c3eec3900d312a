"""Selectors in an object that is reviewed: do they compile, and do they have an answer for every device?

A selector that reads what a device lacks has no answer, and kube-scheduler then places no pod that asks for it,
wherever that device is. The selectors of a class meet all devices, those of a request only what its class lets through.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from driver.core import cel, quoting
from driver.core.allocator import guards
from driver.core.cel import CelError, MissingKey, View
from driver.core.reviewing import specimens
from driver.core.reviewing.findings import Finding, warn
from driver.core.reviewing.specimens import Specimen
from driver.core.reviewing.subjects import Subject, Wish
from driver.core.specification import OWN_DOMAINS
from driver.model.published import PublishedSlice
from driver.model.requests import DeviceClass, Selector
from driver.model.vocabulary import DOMAIN, TYPE_GPU, TYPE_PARTITION

_OURS: Final = f'device.attributes["{DOMAIN}"]'
OUR_CLASSES: Final[Mapping[str, tuple[str, ...]]] = {
    f"gpu.{DOMAIN}": (f'{_OURS}.?type.orValue("") == "gpu"',),
    f"partition.{DOMAIN}": (f'{_OURS}.?type.orValue("") == "partition"',),
    f"shared.{DOMAIN}": (
        f'{_OURS}.?type.orValue("") in ["gpu", "partition"]',
        f'{_OURS}.?sharing.orValue("") in ["MPS", "TimeSlicing"]',
    ),
    f"topology.{DOMAIN}": (
        f'{_OURS}.?type.orValue("") == "gpu"',
        f'{_OURS}.?allocator.orValue("") == "controller"',
    ),
    f"vfio.{DOMAIN}": (f'{_OURS}.?type.orValue("") == "vfio"',),
}
"""Selectors of the classes of deploy/, for when the classes themselves are not at hand. A test keeps both alike."""
_MAX_TRIED: Final = 20_000
"""Published devices that are looked at for one that matches."""


@dataclass(frozen=True, slots=True)
class Stage:
    """What selectors are tried on."""

    specimens: tuple[Specimen, ...]
    classes: Mapping[str, DeviceClass]
    slices: Sequence[PublishedSlice] = ()
    has_slices: bool = False
    """Whether the slices of the cluster are known: none may be published."""
    has_classes: bool = False
    """Whether `classes` are all that there are."""
    has_time: Callable[[], bool] = lambda: True
    """Asked before each selector: what has not been tried when it says no is not tried any more."""


def open_stage(
    driver: str,
    classes: Mapping[str, DeviceClass] | None = None,
    slices: Sequence[PublishedSlice] | None = None,
    *,
    has_all_classes: bool = False,
) -> Stage:
    """Return the stage for a driver, with what is known of the cluster (None: nothing)."""
    devices = (*specimens.make(driver), *specimens.sample(slices or ()))
    return Stage(devices, classes or {}, slices or (), slices is not None, has_all_classes)


def review_class(subject: Subject, stage: Stage) -> Iterator[Finding]:
    """Yield what is wrong with the selectors of a class."""
    faults, compiled = _compile(subject.selectors, f"{subject.path}.selectors", stage)
    yield from faults
    yield from _try(compiled, stage.specimens, stage)
    if stage.has_slices and not faults and not _matches_any(compiled, stage):
        yield warn(f"{subject.path}.selectors", "no device that is published now matches this class")


def review_wish(wish: Wish, stage: Stage) -> Iterator[Finding]:
    """Yield what is wrong with the selectors of a request."""
    faults, compiled = _compile(wish.request.selectors, f"{wish.path}.selectors", stage)
    yield from faults
    passed = _pass_class(wish.request.device_class_name, stage)
    yield from _try_blindly(compiled, stage) if passed is None else _try(compiled, passed, stage)


def find_types(class_name: str, stage: Stage) -> frozenset[str] | None:
    """Return the types of devices that a class lets through; None if that is not known."""
    passed = _pass_class(class_name, stage)
    return frozenset(each.type for each in passed if each.type) if passed else None


_Compiled = list[tuple[str, str]]
"""Path and expression."""


def _compile(selectors: Sequence[Selector], path: str, stage: Stage) -> tuple[list[Finding], _Compiled]:
    """Return what the API server would refuse, and the selectors that can be tried."""
    faults: list[Finding] = []
    good: _Compiled = []
    for index, selector in enumerate(selectors):
        if selector.cel is None or not stage.has_time():
            continue
        where, expression = f"{path}[{index}].cel.expression", selector.cel.expression
        reason = cel.admission_error(expression)
        if reason is None:
            good.append((where, expression))
        else:
            shown = quoting.shorten(" ".join(expression.split()))
            faults.append(Finding(where, f"{shown!r} is no selector: {' '.join(reason.split())}"))
    return faults, good


def _try(compiled: _Compiled, devices: Sequence[Specimen], stage: Stage) -> Iterator[Finding]:
    """Yield selectors that have no answer for a device; each meets those that the earlier ones let through."""
    for path, expression in compiled:
        failing = [each for each in devices if stage.has_time() and _find_missing(expression, each) is not None]
        if failing:
            yield _describe(path, expression, failing)
        devices = [each for each in devices if stage.has_time() and _matches(expression, each.view)]


def _try_blindly(compiled: _Compiled, stage: Stage) -> Iterator[Finding]:
    """Yield selectors that read a word of the vocabulary that devices of every type may lack.

    More cannot be said of a request whose class is not at hand.
    """
    for path, expression in compiled:
        devices = (each for each in stage.specimens if each.type and stage.has_time())
        failing = [each for each in devices if _lacks_own(_find_missing(expression, each))]
        if {each.type for each in failing} >= {TYPE_GPU, TYPE_PARTITION}:
            yield _describe(path, expression, failing)


def _pass_class(name: str, stage: Stage) -> list[Specimen] | None:
    """Return the devices that a class lets through; None if nothing is known of it."""
    device_class = stage.classes.get(name)
    if device_class is not None:
        selectors = tuple(each.cel.expression for each in device_class.spec.selectors if each.cel is not None)
    elif name in OUR_CLASSES:
        selectors = OUR_CLASSES[name]
    else:
        return None
    return [each for each in stage.specimens if all(stage.has_time() and _matches(s, each.view) for s in selectors)]


def _matches_any(compiled: _Compiled, stage: Stage) -> bool:
    """Say whether a published device matches; also if there are too many, or too little time, to look at all."""
    devices = specimens.list_devices(stage.slices)
    for driver, _, device in itertools.islice(devices, _MAX_TRIED):
        if not stage.has_time():
            return True
        try:
            view = cel.view(driver, device)
        except CelError:
            continue
        if all(_matches(expression, view) for _, expression in compiled):
            return True
    return next(devices, None) is not None


def _matches(expression: str, view: View) -> bool:
    try:
        return _evaluate(expression, view)
    except CelError:
        return False


def _evaluate(expression: str, view: View) -> bool:
    return cel.matches(cel.compile_selector(expression), view)


def _find_missing(expression: str, specimen: Specimen) -> MissingKey | None:
    """Return the attribute or capacity that a device lacks and the selector reads."""
    try:
        _evaluate(expression, specimen.view)
    except MissingKey as error:
        return error if error.kind else None
    except CelError:
        return None
    return None


def _lacks_own(missing: MissingKey | None) -> bool:
    return missing is not None and f"{missing.domain}/" in OWN_DOMAINS


def _describe(path: str, expression: str, failing: Sequence[Specimen]) -> Finding:
    missing = _find_missing(expression, failing[0])
    what = f"{'capacity' if missing and missing.kind == 'capacity' else 'attribute'}"
    name = f"{missing.domain}/{missing.name}" if missing else ""
    better = guards.guard(expression, [each.view for each in failing], _evaluate)
    advice = f"; this would work: `{better}`" if better else ""
    text = f"has no answer for {failing[0].what}: it has no {what} {name}"
    return warn(path, f"{text}, and kube-scheduler then places no pod that asks for this{advice}")
