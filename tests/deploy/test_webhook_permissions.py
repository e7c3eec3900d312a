"""The webhook uses every right that its role grants, and no other."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from driver.simulation.apiserver import ApiServer
from driver.webhook.app import Webhook
from tests.fakes import kustomize
from tests.fakes.installing import guarded_server, install, issue_token
from tests.fakes.kustomize import Object, items, mapping
from tests.fakes.recording import Need, Recorder
from tests.fakes.waiting import wait_until
from tests.webhook.site import metric, settings_for, write_pair

ROOT: Final = Path(__file__).resolve().parents[2]
ACCOUNT: Final = "accel-dra-webhook"
ROLE_FILE: Final = kustomize._load(ROOT / "deploy" / "components" / "webhook" / "role.yaml")
NAMESPACE: Final[Object] = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "accel-dra"}}
GRANTED: Final = {
    Need(str(verb), str(group), str(resource))
    for item in ROLE_FILE
    for rule in map(mapping, items(item.get("rules")))
    for group in items(rule["apiGroups"])
    for resource in items(rule["resources"])
    for verb in items(rule["verbs"])
}


@pytest.fixture
def server() -> Iterator[ApiServer]:
    with guarded_server() as running:
        yield running


def without(right: Need | None, item: Object) -> Object:
    """Return a role without one right."""
    if right is None or "rules" not in item:
        return item
    rules: list[object] = [
        {"apiGroups": [need.group], "resources": [need.resource], "verbs": [need.verb]}
        for need in sorted(GRANTED - {right})
    ]
    return {**item, "rules": rules}


@pytest.mark.parametrize("right", [None, *sorted(GRANTED)], ids=str)
def test_each_right_is_used_and_enough(server: ApiServer, tmp_path: Path, right: Need | None) -> None:
    install(server, [NAMESPACE, *(without(right, item) for item in ROLE_FILE)])
    write_pair(tmp_path)
    config = tmp_path / "config"
    with Recorder(server.url) as recorder:
        document = {
            "clusters": [{"name": "c", "cluster": {"server": recorder.url}}],
            "users": [{"name": "u", "user": {"token": issue_token(server, "node-a", ACCOUNT)}}],
            "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
            "current-context": "x",
        }
        config.write_text(json.dumps(document))
        with Webhook(settings_for(tmp_path, watch=True, kubeconfig=str(config))) as webhook:
            if right is None:
                wait_until(lambda: recorder.needs == GRANTED and metric(webhook, "cache_synced") == 1, "all rights")
                assert recorder.refused == []
            else:
                wait_until(lambda: recorder.refused, "a refusal")
                assert {seen.need for seen in recorder.refused} == {right}
