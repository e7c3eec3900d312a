"""From a request to its answer: who asks, may they, which resource, which verb.

`Api.handle` is the whole server without sockets; the HTTP edge and tests call it. Answers a `Response`, or a `Watch`
that the edge has to stream.
"""

from __future__ import annotations

from driver.simulation.apiserver import kinds
from driver.simulation.apiserver.registry import ADMIN, Registry
from driver.simulation.apiserver.requests import Request, Response, Route, json_response, parse_path, verb_of
from driver.simulation.apiserver.statuses import ApiError, method_not_allowed, no_such_path
from driver.simulation.apiserver.verbs import VERBS, Call, allowed, open_watch
from driver.simulation.apiserver.watching import Watch


class Api:
    """Everything behind the port."""

    def __init__(self, registry: Registry) -> None:
        self.registry = registry

    def handle(self, request: Request) -> Response | Watch:
        """The answer to one request; never raises for bad requests."""
        try:
            return self._handle(request)
        except ApiError as error:
            response = json_response(error.body, error.code)
            response.headers.update(error.headers)
            return response

    def _handle(self, request: Request) -> Response | Watch:
        route = parse_path(request.path)
        if route is None or not route.plural:
            return self._outside(request)
        return self._resource(request, route)

    def _resource(self, request: Request, route: Route) -> Response | Watch:
        resource = kinds.find(route.group, route.version, route.plural)
        if resource is None:
            raise no_such_path()
        call = Call(request, route, resource, ADMIN, self.registry)
        verb = verb_of(request, route)
        if resource.namespaced and verb == "create" and not route.namespace:
            raise method_not_allowed()
        if verb == "create" and route.name and not route.subresource:
            raise method_not_allowed()
        if not allowed(verb, call):
            raise method_not_allowed()
        if verb == "watch":
            return open_watch(call)
        return VERBS[verb](call)

    def _outside(self, request: Request) -> Response:
        if request.path in {"/healthz", "/livez", "/readyz"}:
            return Response(200, b"ok", "text/plain; charset=utf-8")
        return Response(404, b"404 page not found\n", "text/plain; charset=utf-8")
