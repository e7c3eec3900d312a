"""Claims and pods that exist only in a file, as if the cluster had made them: for answers before anything is created.

Called by `accel-dra explain -f`. It does what the claim controller of Kubernetes would do (a claim for every entry of a
pod that names a template, named `<pod>-<entry>`), refuses what the API server would (`proofreading`), and takes lists
and objects that make pods (`replicating`) apart. Documents of other kinds are left out and named. Promises: nothing
but `InvalidInput` is raised, with the number of the document and the path of the field.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeVar

import msgspec

from driver.core import proofreading, quoting, replicating, suggesting
from driver.model.errors import InvalidInput
from driver.model.objects import ObjectMeta
from driver.model.requests import ClaimSpec, ClassSpec, DeviceClass, ResourceClaimTemplate
from driver.model.wanted import Claim
from driver.model.workloads import ClaimReference, GeneratedClaim, Workload, WorkloadSpec

_T = TypeVar("_T")

_KINDS: Final = {
    "ResourceClaim": ("resource.k8s.io/v1", Claim),
    "ResourceClaimTemplate": ("resource.k8s.io/v1", ResourceClaimTemplate),
    "DeviceClass": ("resource.k8s.io/v1", DeviceClass),
    "Pod": ("v1", Workload),
}
_claims: Final = msgspec.json.Decoder(Claim)
_templates: Final = msgspec.json.Decoder(ResourceClaimTemplate)
_pods: Final = msgspec.json.Decoder(Workload)
_classes: Final = msgspec.json.Decoder(DeviceClass)
_UNNAMED: Final = "unnamed"
IMAGINED: Final = "any pod that uses"
"""How the name of a pod begins that no file and no cluster has."""
_LAST: Final = "9999-12-31T23:59:59Z"
"""When drafts are created: whatever exists is served before them."""


@dataclass(frozen=True, slots=True)
class Draft:
    """What a file would create, as far as it has to do with devices."""

    claims: tuple[Claim, ...] = ()
    """Without those of templates."""
    templates: tuple[ResourceClaimTemplate, ...] = ()
    pods: tuple[Workload, ...] = ()
    classes: tuple[DeviceClass, ...] = ()
    others: tuple[str, ...] = ()
    """Kind and name of the documents that were left out."""

    @property
    def missing_templates(self) -> frozenset[tuple[str, str]]:
        """Namespace and name of templates that pods name and the file does not hold."""
        known = {(each.metadata.namespace, each.metadata.name) for each in self.templates}
        named = {
            (pod.metadata.namespace, entry.resource_claim_template_name)
            for pod in self.pods
            for entry in pod.spec.resource_claims
            if entry.resource_claim_template_name
        }
        return frozenset((namespace, name) for namespace, name in named - known)


def read(documents: Sequence[object], namespace: str) -> Draft:
    """Return what the documents of a file are; those that name no namespace go to `namespace`."""
    draft = Draft()
    for number, document in enumerate(documents, start=1):
        if document is not None:
            draft = _add(draft, document, number, namespace)
    return draft


def expand(draft: Draft) -> Draft:
    """Return the draft with a claim for every entry of a pod that names a template, and for every unused template."""
    templates = {(each.metadata.namespace, each.metadata.name): each for each in draft.templates}
    claims = list(draft.claims)
    pods: list[Workload] = []
    used: set[tuple[str, str]] = set()
    for pod in draft.pods:
        statuses: list[GeneratedClaim] = []
        for entry in pod.spec.resource_claims:
            if not entry.resource_claim_template_name:
                continue
            key = (pod.metadata.namespace, entry.resource_claim_template_name)
            if key not in templates:
                allowed = "a ResourceClaimTemplate of the file or of the namespace"
                raise InvalidInput(f"pod {pod.metadata.name}: resourceClaimTemplateName", key[1], allowed)
            used.add(key)
            claims.append(_generate(templates[key], f"{pod.metadata.name}-{entry.name}"))
            statuses.append(GeneratedClaim(name=entry.name, resource_claim_name=claims[-1].metadata.name))
        status = msgspec.structs.replace(pod.status, resource_claim_statuses=tuple(statuses))
        pods.append(msgspec.structs.replace(pod, status=status))
    claims += [_generate(each, each.metadata.name) for key, each in templates.items() if key not in used]
    return replace(draft, claims=tuple(claims), pods=tuple(pods))


def _add(draft: Draft, document: object, number: int, namespace: str) -> Draft:
    if not isinstance(document, Mapping):
        raise InvalidInput(f"document {number}", type(document).__name__, "an object with apiVersion and kind")
    kind = document.get("kind")
    if not isinstance(kind, str) or not kind:
        raise InvalidInput(f"document {number}: kind", kind, f"{', '.join(_KINDS)} or another kind of Kubernetes")
    metadata = document.get("metadata")
    name = metadata.get("name") if isinstance(metadata, Mapping) else None
    if kind == "List":
        return _add_items(draft, document.get("items"), number, namespace)
    if kind not in _KINDS:
        pods = tuple(replicating.make_pods(document, number))
        if pods:
            return _add_items(draft, pods, number, namespace)
        nearest = suggesting.find_nearest(kind, _KINDS)
        if nearest is not None:
            raise InvalidInput(f"document {number}: kind", kind, f"{', '.join(_KINDS)} ({nearest} was probably meant)")
        return replace(draft, others=(*draft.others, f"{kind} {name or _UNNAMED}"))
    api_version, _ = _KINDS[kind]
    if document.get("apiVersion") != api_version:
        raise InvalidInput(f"document {number}: apiVersion", document.get("apiVersion"), f"{api_version} for a {kind}")
    return _take(draft, kind, document, (number, namespace))


def _add_items(draft: Draft, items: object, number: int, namespace: str) -> Draft:
    """Add the documents that one document holds."""
    if not isinstance(items, list | tuple | None):
        raise InvalidInput(f"document {number}: items", type(items).__name__, "a list of objects")
    for item in items or ():
        draft = _add(draft, item, number, namespace)
    return draft


def _take(draft: Draft, kind: str, document: Mapping[str, object], place: tuple[int, str]) -> Draft:
    match kind:
        case "ResourceClaim":
            claim = _decode(document, _claims, place)
            claim = msgspec.structs.replace(
                claim, spec=_proofread(document.get("spec"), claim.spec, f"document {place[0]}: spec")
            )
            return replace(draft, claims=(*draft.claims, _settle(claim, place)))
        case "ResourceClaimTemplate":
            template = _decode(document, _templates, place)
            written = _descend(document.get("spec"), "spec")
            inner = _proofread(written, template.spec.spec, f"document {place[0]}: spec.spec")
            template = msgspec.structs.replace(template, spec=msgspec.structs.replace(template.spec, spec=inner))
            return replace(draft, templates=(*draft.templates, _settle(template, place)))
        case "Pod":
            pod = _decode(document, _pods, place)
            proofreading.check_references(_descend(document.get("spec"), "resourceClaims"), pod, f"document {place[0]}")
            return replace(draft, pods=(*draft.pods, _settle(pod, place)))
        case _:
            device_class = _decode(document, _classes, place)
            proofreading.refuse_unknown_fields(document.get("spec"), ClassSpec, f"document {place[0]}: spec")
            return replace(draft, classes=(*draft.classes, device_class))


def _descend(value: object, key: str) -> object:
    return value.get(key) if isinstance(value, Mapping) else None


def _proofread(written: object, spec: ClaimSpec, path: str) -> ClaimSpec:
    """Return what is asked with Kubernetes' defaults, or refuse it as kubectl and the API server would."""
    proofreading.refuse_unknown_fields(written, ClaimSpec, path)
    return proofreading.check(spec, path)


def _decode(document: Mapping[str, object], decoder: msgspec.json.Decoder[_T], place: tuple[int, str]) -> _T:
    """Decode through JSON, because opaque parameters are kept as JSON text."""
    try:
        return decoder.decode(msgspec.json.encode({"metadata": {}, **document}))
    except (msgspec.MsgspecError, TypeError, RecursionError, ValueError) as error:
        allowed, _, field = str(error).partition(" - at `")
        path = field.rstrip("`").removeprefix("$.")
        where = f"document {place[0]}{': ' if path else ''}{path}"
        value = quoting.shorten(str(_find(document, path)))
        raise InvalidInput(where, value, allowed or "what Kubernetes takes there") from error


def _find(document: object, path: str) -> object:
    """Return the value at a path such as `spec.devices.requests[0].name`; the deepest there is if it leads nowhere."""
    for key, index in re.findall(r"(\w+)|\[(\d+)\]", path):
        if isinstance(document, Mapping) and key in document:
            document = document[key]
        elif isinstance(document, list) and index and int(index) < len(document):
            document = document[int(index)]
    return document


_Settled = TypeVar("_Settled", Claim, ResourceClaimTemplate, Workload)


def _settle(item: _Settled, place: tuple[int, str]) -> _Settled:
    """Return the object with what the API server would add: namespace, name, UID; and no status of its own."""
    number, namespace = place
    meta = item.metadata
    name = meta.name or f"{meta.generate_name or _UNNAMED + '-'}{number}"
    settled = msgspec.structs.replace(
        meta,
        name=name,
        namespace=meta.namespace or namespace,
        uid=f"draft-{number}-{name}",
        owner_references=(),
        creation_timestamp=_LAST,
    )
    return msgspec.structs.replace(item, metadata=settled)


def _generate(template: ResourceClaimTemplate, name: str) -> Claim:
    spec = template.spec
    metadata = ObjectMeta(
        name=name,
        namespace=template.metadata.namespace,
        uid=f"draft-{template.metadata.namespace}-{name}",
        creation_timestamp=_LAST,
        labels=spec.metadata.labels,
        annotations=spec.metadata.annotations,
    )
    return Claim(metadata=metadata, spec=spec.spec)


def imagine_pod(claim: Claim) -> Workload:
    """Return a pod that does nothing but use a claim: what would happen if somebody created one now."""
    name = f"{IMAGINED} {claim.metadata.name}"
    metadata = ObjectMeta(
        name=name, namespace=claim.metadata.namespace, uid=f"{claim.metadata.uid}-pod", creation_timestamp=_LAST
    )
    entry = ClaimReference(name="claim", resource_claim_name=claim.metadata.name)
    return Workload(metadata=metadata, spec=WorkloadSpec(resource_claims=(entry,)))
