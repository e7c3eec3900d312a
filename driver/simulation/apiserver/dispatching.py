"""From a request to its answer: who asks, may they, which resource, which verb.

`Api.handle` is the whole server without sockets; the HTTP edge and tests call it. Answers a `Response`, or a `Watch`
that the edge has to stream.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Final

from driver.simulation.apiserver import discovery, kinds, openapi
from driver.simulation.apiserver.authenticating import impersonated
from driver.simulation.apiserver.authorizing import Attributes, Authorizer, forbidden
from driver.simulation.apiserver.gates import FeatureGates
from driver.simulation.apiserver.registry import ADMIN, Registry
from driver.simulation.apiserver.requests import Request, Response, Route, User, json_response, parse_path, verb_of
from driver.simulation.apiserver.reviews import Reviewer
from driver.simulation.apiserver.statuses import ApiError, failure, method_not_allowed, no_such_path
from driver.simulation.apiserver.subresources import SPECIAL
from driver.simulation.apiserver.verbs import VERBS, Call, allowed, open_watch
from driver.simulation.apiserver.watching import Watch

_LOG: Final = logging.getLogger(__name__)
_METHODS: Final = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE"})
_TEXT: Final = "text/plain; charset=utf-8"
_HEALTH: Final = frozenset({"/healthz", "/livez", "/readyz"})


@dataclass
class Api:
    """Everything behind the port. `authorizer` is None where everybody is admin."""

    registry: Registry
    reviewer: Reviewer
    authorizer: Authorizer | None
    gates: FeatureGates

    def handle(self, request: Request) -> Response | Watch:
        """The answer to one request; never raises."""
        try:
            return self._handle(request)
        except ApiError as error:
            return _refusal(error)
        except Exception:  # noqa: BLE001 - a fault of ours must not look like a broken connection
            _LOG.exception("%s %s failed", request.method, request.path)
            why = "Internal error occurred: a bug of the embedded API server, see its log"
            return _refusal(failure(500, "InternalError", why))

    def _handle(self, request: Request) -> Response | Watch:
        user = self._user(request)
        route = parse_path(request.path)
        if route is None or not route.plural:
            self._authorize(user, Attributes(_path_verb(request), path=request.path))
            return self._outside(request)
        verb = verb_of(request, route)
        self._authorize(user, _attributes(request, route, verb))
        if request.method not in _METHODS:
            raise method_not_allowed()
        review = kinds.find_review(route.group, route.version, route.plural)
        if review is not None:
            if verb != "create" or route.name:
                raise method_not_allowed()
            return self.reviewer.review(review, request, route, user)
        return self._resource(request, route, verb, user)

    def _user(self, request: Request) -> User:
        if self.authorizer is None:
            return ADMIN
        user = self.reviewer.authenticator.authenticate(request)
        other = impersonated(request)
        if other is None:
            return user
        self._authorize(user, Attributes("impersonate", resource="users", name=other.name))
        return other

    def _authorize(self, user: User, wanted: Attributes) -> None:
        if self.authorizer is None:
            return
        decision = self.authorizer.decide(user, wanted)
        if not decision.allowed:
            raise forbidden(user, wanted, decision.reason)

    def _resource(self, request: Request, route: Route, verb: str, user: User) -> Response | Watch:
        resource = kinds.find(route.group, route.version, route.plural)
        if resource is None or (route.subresource and resource.subresource(route.subresource) is None):
            raise no_such_path()
        call = Call(request, route, resource, user, self.registry)
        if not allowed(verb, call) or not _fits(resource, route, verb):
            raise method_not_allowed()
        if verb == "watch":
            return open_watch(call)
        if route.subresource == "token":
            return self.reviewer.token(request, route)
        special = SPECIAL.get((resource.plural, route.subresource))
        return special(call) if special is not None else VERBS[verb](call)

    def _outside(self, request: Request) -> Response:
        path = request.path.rstrip("/") or "/"
        if path in _HEALTH:
            verbose = "verbose" in request.query
            return Response(200, b"[+]ping ok\n" + path[1:].encode() + b" check passed\n" if verbose else b"ok", _TEXT)
        if path == "/version":
            return json_response(discovery.version_info(self.gates))
        if path.startswith("/openapi/"):
            return openapi.answer(request, self.gates) or discovery.not_found_text()
        return discovery.discover(request) or discovery.not_found_text()


def _refusal(error: ApiError) -> Response:
    response = json_response(error.body, error.code)
    response.headers.update(error.headers)
    return response


def _path_verb(request: Request) -> str:
    return request.method.lower()


def _attributes(request: Request, route: Route, verb: str) -> Attributes:
    return Attributes(
        verb,
        route.group,
        route.plural,
        route.subresource,
        route.namespace,
        route.name,
        field_selector=request.query.get("fieldSelector", ""),
    )


def _fits(resource: kinds.Resource, route: Route, verb: str) -> bool:
    """Whether the path has the parts the verb needs: a name to change, a namespace to create in and no name."""
    if verb in {"update", "patch"} and not route.name:
        return False
    if verb != "create" or route.subresource:
        return not route.namespace or resource.namespaced
    return not route.name and bool(route.namespace) == resource.namespaced
