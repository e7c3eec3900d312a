"""The finer rights for resourceclaims/status: resourceclaims/binding and resourceclaims/driver (since 1.36).

A guard of the registry, asked with every write to a claim's status where authorization is on. Faults join those of
validation, as upstream (registry/resource/utils.go, gate DRAResourceClaimGranularStatusAuthorization).
"""

from __future__ import annotations

from typing import Final

from driver.simulation.apiserver.authenticating import EXTRA
from driver.simulation.apiserver.authorizing import Attributes, Authorizer, forbidden_text
from driver.simulation.apiserver.checking import Faults, forbidden
from driver.simulation.apiserver.kinds import Resource
from driver.simulation.apiserver.registry import Write
from driver.simulation.apiserver.requests import User
from driver.simulation.apiserver.strategies.claim_status import device_key
from driver.simulation.apiserver.tidying import same
from driver.simulation.apiserver.values import Json, JsonObject, dig, items, metadata, obj, text

_GROUP: Final = "resource.k8s.io"


class ClaimGuard:
    """Checks what a status write changes against what its user may change."""

    def __init__(self, authorizer: Authorizer) -> None:
        self._authorizer = authorizer

    def check(self, resource: Resource, new: JsonObject, old: JsonObject, write: Write, verb: str) -> Faults:
        """The faults of a write; `verb` is update or patch."""
        if resource.plural != "resourceclaims" or write.subresource != "status":
            return []
        return self._check_binding(new, old, write.user, verb) + self._check_drivers(new, old, write.user, verb)

    def _check_binding(self, new: JsonObject, old: JsonObject, user: User, verb: str) -> Faults:
        status, was = obj(new.get("status")), obj(old.get("status"))
        unchanged = same("AllocationResult", status.get("allocation"), was.get("allocation")) and (
            (status.get("reservedFor") or None) == (was.get("reservedFor") or None)
        )
        if unchanged:
            return []
        wanted = Attributes(verb, _GROUP, "resourceclaims", "binding")
        decision = self._authorizer.decide(user, wanted)
        if decision.allowed:
            return []
        why = (
            'changing status.allocation or status.reservedFor requires resource="resourceclaims/binding", '
            f'verb="{verb}" permission: {forbidden_text(user, wanted, decision.reason)}'
        )
        return [forbidden("status.allocation", why)]

    def _check_drivers(self, new: JsonObject, old: JsonObject, user: User, verb: str) -> Faults:
        faults: Faults = []
        for driver in sorted(_changed_drivers(new, old)):
            verbs = [f"arbitrary-node:{verb}"]
            if self._is_associated(old, user):
                verbs.insert(0, f"associated-node:{verb}")
            refusals = []
            for one in verbs:
                wanted = Attributes(
                    one, _GROUP, "resourceclaims", "driver", text(metadata(old).get("namespace")), driver
                )
                decision = self._authorizer.decide(user, wanted)
                if decision.allowed:
                    break
                refusals.append(forbidden_text(user, wanted, decision.reason))
            else:
                why = (
                    f'changing status.devices requires resource="resourceclaims/driver", verb="[{" ".join(verbs)}]" '
                    f"permission: {refusals[0]}"
                )
                faults.append(forbidden("status.devices", why))
        return faults

    @staticmethod
    def _is_associated(claim: JsonObject, user: User) -> bool:
        """Whether the token's node is the one the claim is allocated for."""
        nodes = user.extra.get(f"{EXTRA}/node-name", ())
        terms = items(dig(claim, ("status", "allocation", "nodeSelector", "nodeSelectorTerms")))
        if len(nodes) != 1 or len(terms) != 1:
            return False
        fields = items(obj(terms[0]).get("matchFields"))
        if len(fields) != 1 or items(obj(terms[0]).get("matchExpressions")):
            return False
        field = obj(fields[0])
        return field.get("key") == "metadata.name" and items(field.get("values")) == [nodes[0]]


def _changed_drivers(new: JsonObject, old: JsonObject) -> set[str]:
    before = {device_key(entry): entry for entry in items(dig(old, ("status", "devices")))}
    after = {device_key(entry): entry for entry in items(dig(new, ("status", "devices")))}
    return {key[0] for key in {*before, *after} if not _same_device(before.get(key), after.get(key))}


def _same_device(one: Json, other: Json) -> bool:
    return same("AllocatedDeviceStatus", one, other)
