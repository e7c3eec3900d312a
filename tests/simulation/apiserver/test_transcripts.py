"""Fidelity: every recorded conversation with Kubernetes v1.36.2 is held again with our server.

LEFT_OUT is the honest list of what our server does not do; it must only shrink.
"""

from __future__ import annotations

import datetime as dt

import pytest

from driver.simulation.apiserver import ApiServer, Pace, Sources, User
from driver.simulation.apiserver.values import JsonObject
from tests.simulation.apiserver.replaying import DATA, OPENSHIFT_CONFIG, Replayer, load

SCENARIOS = sorted(path.name.removesuffix(".json.gz") for path in DATA.glob("*.json.gz"))
ADMIN = "admin-token"

_BETA = "DeviceTaintRule and ResourcePoolStatusRequest (beta and alpha) are not served, so their versions differ"
_STREAMS = "proxy, exec, attach, portforward and log need a kubelet, pods/resize and the old bindings path nobody here"
_NO_CHECKER = "the project's CEL has no type checker yet; the scheduler's error is the same, later"

LEFT_OUT: dict[str, dict[int, str]] = {
    "01-discovery": {3: _BETA, 5: _BETA, 7: _BETA, 9: _BETA, 15: _BETA, 4: _STREAMS, 16: _STREAMS},
    "02-resourceslices": {34: "protobuf is not spoken; clients that ask for it get JSON if they accept it, else 406"},
    "09b-validate-claims": {32: _NO_CHECKER, 36: _NO_CHECKER, 38: "the project's CEL does not estimate costs"},
}
"""Steps that are neither sent nor compared."""

FROZEN = dt.datetime(2026, 11, 21, 4, 5, 6, 700000, dt.UTC)
"""One moment for a whole run: entries of managedFields are ordered by time."""

_DIFF = "the message ends in a diff of Kubernetes' internal PodSpec"
_WORDS = "compile errors of CEL are said in the project's own words"

LOOSE: dict[str, dict[int, str]] = {
    "05-pods-nodes": {25: _DIFF, 26: _DIFF},
    "09b-validate-claims": {30: _WORDS, 31: _WORDS, 34: _WORDS, 35: _WORDS, 37: _WORDS},
    "09c-validate-classes": {5: _WORDS},
}
"""Steps compared by their HTTP status only, with the reason."""


def start(namespaces: list[str]) -> ApiServer:
    """A server as the recorded one was: authorization on, a clock that stands still, short seconds."""
    server = ApiServer(
        namespaces=("default", "kube-system", *namespaces),
        sources=Sources(now=lambda: FROZEN),
        authorize=True,
        tokens={ADMIN: User("admin", groups=("system:masters",))},
        pace=Pace(bookmarks=0.5, second=0.05),
    )
    for name in namespaces:
        meta: JsonObject = {"name": OPENSHIFT_CONFIG, "namespace": name}
        server.store.create({"kind": "ConfigMap", "apiVersion": "v1", "metadata": meta})
    server.storage.compact()  # as any server that has run for some minutes has done
    return server.start()


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_transcript(scenario: str) -> None:
    transcript = load(scenario)
    server = start(transcript["namespaces"])
    try:
        replayer = Replayer(server.url, ADMIN, LEFT_OUT.get(scenario), LOOSE.get(scenario))
        replayer.run(transcript["steps"])
    finally:
        server.stop()
    assert not replayer.faults, "\n".join(replayer.faults)
    assert replayer.compared > 5
