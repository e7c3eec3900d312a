"""Who asks: bearer tokens to users, ServiceAccount tokens (TokenRequest), anonymous, impersonation.

Called by the dispatcher before anything else. Static tokens are given at construction; ServiceAccount tokens are JWTs
signed with a key of this process, and die with the pod or node they are bound to.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

import msgspec

from driver.simulation.apiserver.requests import Request, User
from driver.simulation.apiserver.sources import Sources
from driver.simulation.apiserver.statuses import ApiError, failure
from driver.simulation.apiserver.strategies.base import Lookup
from driver.simulation.apiserver.values import Json, JsonObject, encode, items, metadata, obj, text

ANONYMOUS: Final = User("system:anonymous", groups=("system:unauthenticated",))
AUDIENCE: Final = "https://kubernetes.default.svc"
EXTRA: Final = "authentication.kubernetes.io"
_INJECTED_SECONDS: Final = 3607
"""expirationSeconds that the kubelet asks for: such tokens live a year, warnafter says when to refresh."""
_YEAR: Final = 365 * 24 * 3600


def unauthorized() -> ApiError:
    """401."""
    return failure(401, "Unauthorized", "Unauthorized")


@dataclass(frozen=True)
class Bound:
    """What a token is bound to, each as name and uid; empty where it is not."""

    account: tuple[str, str, str]
    """Namespace, name, uid."""
    pod: tuple[str, str] = ("", "")
    node: tuple[str, str] = ("", "")


class Authenticator:
    """Maps requests to users. `tokens` are static credentials: token to user."""

    def __init__(self, tokens: Mapping[str, User], sources: Sources, lookup: Lookup) -> None:
        self._tokens = dict(tokens)
        self._sources = sources
        self._lookup = lookup
        self._key = secrets.token_bytes(32)

    def authenticate(self, request: Request) -> User:
        """The user of a request, impersonated or not; 401 for a token nobody knows."""
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "basic":
            return self.user_of(_password(given.strip())) or ANONYMOUS
        if scheme.lower() != "bearer" or not given.strip():
            return ANONYMOUS
        user = self.user_of(given.strip())
        if user is None:
            raise unauthorized()
        return user

    def user_of(self, token: str) -> User | None:
        """The user behind a token, or None."""
        static = self._tokens.get(token)
        if static is not None:
            return _authenticated(static)
        claims = self._verify(token)
        return None if claims is None else self._account_user(claims)

    def add_token(self, token: str, user: User) -> None:
        """Makes a token valid."""
        self._tokens[token] = user

    def issue(self, bound: Bound, seconds: int, audiences: list[Json]) -> tuple[str, int]:
        """A new ServiceAccount token and the time (Unix seconds) at which it ends."""
        now = int(self._sources.now().timestamp())
        injected = seconds == _INJECTED_SECONDS and bound.pod[0] != ""
        end = now + (_YEAR if injected else seconds)
        namespace, name, uid = bound.account
        private: JsonObject = {"namespace": namespace, "serviceaccount": {"name": name, "uid": uid}}
        if bound.node[0]:
            private["node"] = {"name": bound.node[0], "uid": bound.node[1]}
        if bound.pod[0]:
            private["pod"] = {"name": bound.pod[0], "uid": bound.pod[1]}
        if injected:
            private["warnafter"] = now + seconds
        claims: JsonObject = {
            "aud": audiences,
            "exp": end,
            "iat": now,
            "iss": AUDIENCE,
            "jti": self._sources.new_uid(),
            "kubernetes.io": private,
            "nbf": now,
            "sub": f"system:serviceaccount:{namespace}:{name}",
        }
        head = _pack(encode({"alg": "HS256", "typ": "JWT"}))
        body = _pack(encode(claims))
        return f"{head}.{body}.{self._sign(f'{head}.{body}')}", end

    def _sign(self, signed: str) -> str:
        return _pack(hmac.new(self._key, signed.encode(), hashlib.sha256).digest())

    def _verify(self, token: str) -> JsonObject | None:
        signed, _, signature = token.rpartition(".")
        if signed.count(".") != 1 or not hmac.compare_digest(signature, self._sign(signed)):
            return None
        claims: JsonObject = msgspec.json.decode(_unpack(signed.partition(".")[2]))
        end = claims.get("exp")
        if (
            not isinstance(end, int)
            or end < self._sources.now().timestamp()
            or AUDIENCE not in items(claims.get("aud"))
        ):
            return None
        return claims

    def _account_user(self, claims: JsonObject) -> User | None:
        private = obj(claims.get("kubernetes.io"))
        namespace = text(private.get("namespace"))
        account = obj(private.get("serviceaccount"))
        name = text(account.get("name"))
        if not self._alive("serviceaccounts", namespace, account):
            return None
        extra = {f"{EXTRA}/credential-id": (f"JTI={text(claims.get('jti'))}",)}
        for kind, resource, where in (("node", "nodes", ""), ("pod", "pods", namespace)):
            reference = obj(private.get(kind))
            if not reference:
                continue
            if (kind == "pod" or "pod" not in private) and not self._alive(resource, where, reference):
                return None
            extra[f"{EXTRA}/{kind}-name"] = (text(reference.get("name")),)
            extra[f"{EXTRA}/{kind}-uid"] = (text(reference.get("uid")),)
        groups = ("system:serviceaccounts", f"system:serviceaccounts:{namespace}", "system:authenticated")
        return User(f"system:serviceaccount:{namespace}:{name}", text(account.get("uid")), groups, extra)

    def _alive(self, resource: str, namespace: str, reference: JsonObject) -> bool:
        found = self._lookup(resource, (namespace, text(reference.get("name"))))
        return found is not None and metadata(found).get("uid") == reference.get("uid")


def _password(given: str) -> str:
    """The password of basic authentication, which upstream ignores and `ApiServer.kubeconfig` puts tokens in."""
    try:
        return _unpack(given.replace("+", "-").replace("/", "_").rstrip("=")).decode().partition(":")[2]
    except ValueError:
        return ""


def impersonated(request: Request) -> User | None:
    """The user that Impersonate headers ask for, or None without them."""
    name = request.headers.get("impersonate-user", "")
    if not name:
        return None
    given = request.headers.get("impersonate-group", "")
    groups = tuple(group.strip() for group in given.split(",") if group.strip())
    prefix = "impersonate-extra-"
    extra = {
        key.removeprefix(prefix).replace("%2f", "/"): (value,)
        for key, value in request.headers.items()
        if key.startswith(prefix)
    }
    return _authenticated(User(name, request.headers.get("impersonate-uid", ""), groups, extra))


def _authenticated(user: User) -> User:
    if "system:authenticated" in user.groups or "system:unauthenticated" in user.groups:
        return user
    return replace(user, groups=(*user.groups, "system:authenticated"))


def _pack(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def _unpack(packed: str) -> bytes:
    return base64.urlsafe_b64decode(packed + "=" * (-len(packed) % 4))


def user_info(user: User) -> JsonObject:
    """authentication.k8s.io UserInfo of a user."""
    info: JsonObject = {"username": user.name}
    if user.uid:
        info["uid"] = user.uid
    groups: list[Json] = list(user.groups)
    if groups:
        info["groups"] = groups
    if user.extra:
        extra: JsonObject = {}
        for key in sorted(user.extra):
            extra[key] = list(user.extra[key])
        info["extra"] = extra
    return info
