"""Resources that are asked and never stored: token and access reviews, and the TokenRequest subresource.

Called by the dispatcher. Needs the authenticator and authorizer also where authorization is off (then all is allowed).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import msgspec

from driver.simulation.apiserver.authenticating import AUDIENCE, Authenticator, Bound, user_info
from driver.simulation.apiserver.authorizing import Attributes, Authorizer, Decision
from driver.simulation.apiserver.bodies import decode_plain, json_body
from driver.simulation.apiserver.checking import invalid as invalid_value
from driver.simulation.apiserver.kinds import Review, by_name
from driver.simulation.apiserver.managing import Manager, track_update
from driver.simulation.apiserver.registry import Registry
from driver.simulation.apiserver.requests import Request, Response, Route, User, json_response
from driver.simulation.apiserver.schemas import STRUCTS
from driver.simulation.apiserver.sources import format_unix
from driver.simulation.apiserver.statuses import bad_request, conflict, invalid, not_found
from driver.simulation.apiserver.tidying import tidy
from driver.simulation.apiserver.values import Json, JsonObject, items, metadata, obj, text

_SHORTEST: Final = 600
_TYPE: Final = frozenset({"kind", "apiVersion"})


@dataclass
class Reviewer:
    """Answers reviews for one server. `authorizer` is None where authorization is off."""

    registry: Registry
    authenticator: Authenticator
    authorizer: Authorizer | None

    def review(self, review: Review, request: Request, route: Route, user: User) -> Response:
        """POST of a review."""
        tree: Json = msgspec.json.decode(json_body(request, review.kind))
        value = decode_plain(review.kind, {key: item for key, item in obj(tree).items() if key not in _TYPE})
        answer = _ANSWERS[review.kind](self, value, user, route)
        shown: JsonObject = {"kind": review.kind, "apiVersion": f"{review.group}/{review.version}"}
        shown |= tidy(STRUCTS[review.kind], {**value, "status": answer})
        if review.kind == "SelfSubjectReview":
            metadata(shown)["creationTimestamp"] = self.registry.world.sources.timestamp()
        else:
            self._track(shown, review.kind)
        return json_response(shown, 201)

    def _track(self, value: JsonObject, kind: str) -> None:
        blank = tidy(STRUCTS[kind], {})
        manager = Manager("unknown", "Update", text(value.get("apiVersion")))
        bare = {key: item for key, item in value.items() if key != "status"}
        track_update(STRUCTS[kind], blank, bare, manager, self.registry.world.sources.timestamp())
        value["metadata"] = bare["metadata"]

    def decide(self, user: User, wanted: Attributes) -> Decision:
        """The authorizer's answer; yes where there is none."""
        return self.authorizer.decide(user, wanted) if self.authorizer else Decision(allowed=True)

    def token(self, request: Request, route: Route) -> Response:
        """POST serviceaccounts/NAME/token."""
        account = self.registry.read(by_name("serviceaccounts"), (route.namespace, route.name)).value
        tree: Json = msgspec.json.decode(json_body(request, "TokenRequest"))
        value = decode_plain("TokenRequest", {key: item for key, item in obj(tree).items() if key not in _TYPE})
        spec = obj(value.get("spec"))
        seconds = spec.get("expirationSeconds", 3600)
        if not isinstance(seconds, int) or seconds < _SHORTEST:
            fault = invalid_value("spec.expirationSeconds", seconds, "may not specify a duration less than 10 minutes")
            raise invalid("authentication.k8s.io", "TokenRequest", "", [fault])
        audiences = items(spec.get("audiences")) or [AUDIENCE]
        bound = self._bound(account, spec.get("boundObjectRef"), route)
        token, end = self.authenticator.issue(bound, seconds, audiences)
        status: JsonObject = {"token": token, "expirationTimestamp": format_unix(end)}
        meta: JsonObject = {
            "name": route.name,
            "namespace": route.namespace,
            "uid": metadata(account).get("uid"),
            "creationTimestamp": self.registry.world.sources.timestamp(),
        }
        spec = {**spec, "audiences": audiences, "expirationSeconds": seconds}
        shown: JsonObject = {"kind": "TokenRequest", "apiVersion": "authentication.k8s.io/v1"}
        shown |= tidy(STRUCTS["TokenRequest"], {"metadata": meta, "spec": spec, "status": status})
        self._track(shown, "TokenRequest")
        return json_response(shown, 201)

    def _bound(self, account: JsonObject, reference: Json, route: Route) -> Bound:
        meta = metadata(account)
        identity = (text(meta.get("namespace")), text(meta.get("name")), text(meta.get("uid")))
        if reference is None:
            return Bound(identity)
        kind, name, uid = (text(obj(reference).get(field)) for field in ("kind", "name", "uid"))
        version = text(obj(reference).get("apiVersion"))
        if version != "v1" or kind not in {"Pod", "Node", "Secret"}:
            raise bad_request(f"cannot bind token to object of type /{version}, Kind={kind}")
        plural = f"{kind.lower()}s"
        found = self.registry.world.lookup(plural, ("" if kind == "Node" else route.namespace, name))
        if found is None:
            raise not_found("", plural, name)
        current = text(metadata(found).get("uid"))
        if uid and uid != current:
            why = (
                f"the UID in the bound object reference ({uid}) does not match the UID in record. The object might "
                "have been deleted and then recreated"
            )
            raise conflict("", kind, name, why)
        if kind == "Node":
            return Bound(identity, node=(name, current))
        if kind == "Secret":
            return Bound(identity)
        return self._bound_to_pod(identity, found, name, current)

    def _bound_to_pod(self, identity: tuple[str, str, str], pod: JsonObject, name: str, uid: str) -> Bound:
        spec = obj(pod.get("spec"))
        if spec.get("serviceAccountName") != identity[1]:
            raise bad_request(
                f'cannot bind token for serviceaccount "{identity[1]}" to pod running with different '
                "serviceaccount name."
            )
        node = text(spec.get("nodeName"))
        if not node:
            return Bound(identity, pod=(name, uid))
        found = self.registry.world.lookup("nodes", ("", node))
        return Bound(identity, pod=(name, uid), node=(node, text(metadata(found or {}).get("uid"))))


def _self_review(_reviewer: Reviewer, _value: JsonObject, user: User, _route: Route) -> JsonObject:
    return {"userInfo": user_info(user)}


def _token_review(reviewer: Reviewer, value: JsonObject, _user: User, _route: Route) -> JsonObject:
    found = reviewer.authenticator.user_of(text(obj(value.get("spec")).get("token")))
    if found is None:
        return {"user": {}, "error": "invalid bearer token"}
    return {"authenticated": True, "user": user_info(found), "audiences": [AUDIENCE]}


def _access_review(reviewer: Reviewer, value: JsonObject, user: User, route: Route) -> JsonObject:
    spec = obj(value.get("spec"))
    subject = user
    if spec.get("user") or spec.get("groups"):
        groups = tuple(text(group) for group in items(spec.get("groups")))
        extra = {key: tuple(text(one) for one in items(entry)) for key, entry in obj(spec.get("extra")).items()}
        subject = User(text(spec.get("user")), text(spec.get("uid")), groups, extra)
    decision = reviewer.decide(subject, _attributes(spec, route))
    answer: JsonObject = {"allowed": decision.allowed}
    if decision.reason:
        answer["reason"] = decision.reason
    return answer


def _attributes(spec: JsonObject, route: Route) -> Attributes:
    other = obj(spec.get("nonResourceAttributes"))
    if other:
        return Attributes(text(other.get("verb")), path=text(other.get("path")))
    wanted = obj(spec.get("resourceAttributes"))
    resource, _, subresource = text(wanted.get("resource")).partition("/")
    return Attributes(
        text(wanted.get("verb")),
        text(wanted.get("group")),
        resource,
        text(wanted.get("subresource")) or subresource,
        text(wanted.get("namespace")) or route.namespace,
        text(wanted.get("name")),
    )


def _rules_review(reviewer: Reviewer, value: JsonObject, user: User, _route: Route) -> JsonObject:
    namespace = text(obj(value.get("spec")).get("namespace"))
    resources: list[Json] = []
    others: list[Json] = []
    if reviewer.authorizer is None:
        resources.append({"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]})
    else:
        for rule, _reason in reviewer.authorizer.rules(user, namespace):
            (others if rule.get("nonResourceURLs") else resources).append(rule)
    return {"resourceRules": resources, "nonResourceRules": others, "incomplete": False}


_ANSWERS: Final[dict[str, Callable[[Reviewer, JsonObject, User, Route], JsonObject]]] = {
    "SelfSubjectReview": _self_review,
    "TokenReview": _token_review,
    "SelfSubjectAccessReview": _access_review,
    "SubjectAccessReview": _access_review,
    "LocalSubjectAccessReview": _access_review,
    "SelfSubjectRulesReview": _rules_review,
}
