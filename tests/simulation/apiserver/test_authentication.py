"""Tokens: who they stand for, what they are bound to, when they end; impersonation."""

from __future__ import annotations

import base64
import datetime as dt
import json
from typing import Any

import pytest

from driver.simulation.apiserver import ApiServer, Sources, User
from driver.simulation.apiserver.requests import Request
from tests.simulation.apiserver.asking import Asking, a_pod

ADMIN = "admin-token"
ACCOUNT = "/api/v1/namespaces/default/serviceaccounts/driver"
WHOAMI = "/apis/authentication.k8s.io/v1/selfsubjectreviews"


class Clock:
    """A time that a test moves."""

    def __init__(self) -> None:
        self.moment = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)

    def now(self) -> dt.datetime:
        return self.moment


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def admin(clock: Clock) -> Asking:
    """The admin of a server with authentication, a node, a ServiceAccount and a pod of it."""
    tokens = {ADMIN: User("admin", groups=("system:masters",)), "alice-token": User("alice", groups=("team",))}
    asking = Asking(ApiServer(authorize=True, tokens=tokens, sources=Sources(now=clock.now)), ADMIN)
    asking.ok("POST", "/api/v1/nodes", {"metadata": {"name": "node-a"}})
    asking.ok("POST", "/api/v1/namespaces/default/serviceaccounts", {"metadata": {"name": "driver"}})
    pod = a_pod(nodeName="node-a", serviceAccountName="driver")
    asking.ok("POST", "/api/v1/namespaces/default/pods", pod)
    return asking


def issue(admin: Asking, **spec: Any) -> str:
    token: str = admin.ok("POST", f"{ACCOUNT}/token", {"spec": spec})["status"]["token"]
    return token


def whoami(admin: Asking, token: str) -> dict[str, Any]:
    info: dict[str, Any] = Asking(admin.server, token).ok("POST", WHOAMI, {})["status"]["userInfo"]
    return info


@pytest.mark.parametrize(
    ("header", "name"),
    [
        ("Bearer alice-token", "alice"),
        ("bearer  alice-token ", "alice"),
        ("Basic " + base64.b64encode(b"token:alice-token").decode(), "alice"),
        ("Basic " + base64.b64encode(b"token:").decode(), "system:anonymous"),
        ("Basic " + base64.b64encode(b"token:other").decode(), "system:anonymous"),
        ("Basic %%%", "system:anonymous"),
        ("Basic " + base64.b64encode(b"\xff\xfe").decode(), "system:anonymous"),
        ("Bearer", "system:anonymous"),
        ("Negotiate abc", "system:anonymous"),
        ("", "system:anonymous"),
    ],
)
def test_a_token_is_a_bearers_or_the_password_of_the_url(admin: Asking, header: str, name: str) -> None:
    request = Request("GET", "/api/v1/nodes", headers={"authorization": header})
    assert admin.server.authenticator.authenticate(request).name == name


def test_static_tokens_stand_for_their_users(admin: Asking) -> None:
    assert whoami(admin, "alice-token") == {"username": "alice", "groups": ["team", "system:authenticated"]}


def test_a_pod_token_says_pod_and_node(admin: Asking) -> None:
    info = whoami(admin, issue(admin, boundObjectRef={"kind": "Pod", "apiVersion": "v1", "name": "p"}))
    assert info["username"] == "system:serviceaccount:default:driver"
    assert info["extra"]["authentication.kubernetes.io/node-name"] == ["node-a"]
    assert info["extra"]["authentication.kubernetes.io/pod-name"] == ["p"]


def test_a_token_is_a_jwt_with_the_real_claims(admin: Asking) -> None:
    token = issue(admin, boundObjectRef={"kind": "Node", "apiVersion": "v1", "name": "node-a"}, expirationSeconds=900)
    payload = token.split(".")[1]
    claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    assert claims["sub"] == "system:serviceaccount:default:driver"
    assert claims["aud"] == [claims["iss"]] == ["https://kubernetes.default.svc"]
    assert claims["exp"] - claims["iat"] == 900
    assert claims["kubernetes.io"]["node"]["name"] == "node-a"
    assert "warnafter" not in claims["kubernetes.io"]


def test_tokens_of_injected_volumes_live_a_year_and_warn_after_an_hour(admin: Asking) -> None:
    token = issue(admin, boundObjectRef={"kind": "Pod", "apiVersion": "v1", "name": "p"}, expirationSeconds=3607)
    payload = token.split(".")[1]
    claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    assert claims["exp"] - claims["iat"] == 365 * 24 * 3600
    assert claims["kubernetes.io"]["warnafter"] - claims["iat"] == 3607


def test_a_token_ends(admin: Asking, clock: Clock) -> None:
    token = issue(admin, expirationSeconds=600)
    clock.moment += dt.timedelta(seconds=599)
    assert whoami(admin, token)
    clock.moment += dt.timedelta(seconds=2)
    assert Asking(admin.server, token).refused("POST", WHOAMI, {}) == (401, "Unauthorized")


@pytest.mark.parametrize(
    "gone", ["/api/v1/namespaces/default/pods/p?gracePeriodSeconds=0", ACCOUNT], ids=["pod", "account"]
)
def test_a_token_dies_with_what_it_is_bound_to(admin: Asking, gone: str) -> None:
    token = issue(admin, boundObjectRef={"kind": "Pod", "apiVersion": "v1", "name": "p"})
    admin.ok("DELETE", gone)
    assert Asking(admin.server, token).answer("POST", WHOAMI, {}).status == 401


def test_a_node_token_dies_with_the_node(admin: Asking) -> None:
    token = issue(admin, boundObjectRef={"kind": "Node", "apiVersion": "v1", "name": "node-a"})
    admin.ok("DELETE", "/api/v1/nodes/node-a")
    assert Asking(admin.server, token).answer("POST", WHOAMI, {}).status == 401


@pytest.mark.parametrize("token", ["nonsense", "a.b.c", "..", ""])
def test_what_is_no_token_is_unauthorized_and_no_token_is_anonymous(admin: Asking, token: str) -> None:
    code, message = Asking(admin.server).refused("GET", "/api/v1/pods", authorization=f"Bearer {token}")
    if token:
        assert (code, message) == (401, "Unauthorized")
    else:
        assert (code, 'User "system:anonymous"' in message) == (403, True)


def test_a_tampered_token_is_unauthorized(admin: Asking) -> None:
    head, body, signature = issue(admin).split(".")
    forged = base64.urlsafe_b64encode(
        base64.urlsafe_b64decode(body + "==").replace(b"default:driver", b"default:master")
    )
    assert Asking(admin.server, f"{head}.{forged.decode().rstrip('=')}.{signature}").answer("GET", "/api").status == 401


def test_masters_may_impersonate_and_others_not(admin: Asking) -> None:
    as_bob = {"impersonate_user": "bob", "impersonate_group": "x, y"}
    info = admin.ok("POST", WHOAMI, {}, **as_bob)["status"]["userInfo"]
    assert info == {"username": "bob", "groups": ["x", "y", "system:authenticated"]}
    code, message = Asking(admin.server, "alice-token").refused("POST", WHOAMI, {}, **as_bob)
    assert code == 403
    assert message.startswith('users "bob" is forbidden: User "alice" cannot impersonate resource "users"')


def test_without_authorization_everybody_is_admin(api: Asking) -> None:
    assert whoami(api, "whatever")["username"] == "system:admin"
    review = api.ok("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", {"spec": {}})
    assert review["status"] == {"allowed": True}
