"""The tables of docs/ that are written from the code. `hack/docs` rewrites them, a test sees that they are current."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterable
from typing import Final

from prometheus_client import CollectorRegistry
from prometheus_client.metrics import MetricWrapperBase

from driver import settings
from driver.cli import commands
from driver.cli.checks.cluster import PERMISSIONS
from driver.cli.explain import EXIT_WAITING
from driver.controller.settings import ControllerSettings
from driver.core import states
from driver.core.deciding.world import Reason
from driver.core.states import State
from driver.telemetry.controller_metrics import ControllerMetrics
from driver.telemetry.metrics import Metrics
from driver.telemetry.webhook_metrics import WebhookMetrics
from driver.webhook.settings import WebhookSettings
from tests.docs.blocks import DOCUMENTS

_MARKED: Final = re.compile(r"(<!-- table: (?P<name>[a-z ]+) -->\n).*?(<!-- end -->)", re.DOTALL)

REASONS: Final = {
    "nodes": "its own Node: it owns the slices, and its label `accel-dra.dev/partitions` sets their mode",
    "resourceslices": "publish this node's devices, and notice when a slice is changed or deleted",
    "resourceclaims": "the claim that a pod on this node is about to use",
    "events": "tell about claims and its Node what a person should know; works without",
}
EXITS: Final = {
    0: "It worked. `doctor`, `lint`: nothing is wrong. `plugin`: it was asked to end. `explain`: nothing waits.",
    commands.EXIT_FAILED: "It failed; the last line says why. `doctor`, `lint`: at least one thing is wrong.",
    commands.EXIT_USAGE: "An option or setting is wrong; the message names it, its value and what is allowed.",
    EXIT_WAITING: "`explain` only: something waits, for devices or for what the message names.",
    130: "Interrupted from the keyboard.",
}
MEANINGS: Final = {
    Reason.NO_CONSUMER: "No pod that may run uses the claim yet.",
    Reason.GROUP_INCOMPLETE: "Claims of its group are missing, or their pods are.",
    Reason.INVALID_POLICY: "Its AllocationPolicy, or that of its class or group, is wrong.",
    Reason.REFUSED: "The API server refused to store the allocation; it is tried again.",
    Reason.NO_NODE: "The pod can run on no node, devices aside.",
    Reason.NO_DEVICES: "No node where the pod can run has the devices.",
    Reason.SCHEDULER: "The devices are free, and kube-scheduler has not placed the pod.",
}


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "".join(f"| {' | '.join(row)} |\n" for row in lines)


def _escape(text: str) -> str:
    """Return plain text as Markdown shows it in a cell."""
    return text.replace("<", "&lt;").replace("|", "\\|")


def write_settings() -> str:
    """Option, variable, default and meaning of each setting of the plugin."""
    return _list_settings(settings.Settings)


def write_controller_settings() -> str:
    """The same for the controller."""
    return _list_settings(ControllerSettings)


def write_webhook_settings() -> str:
    """The same for the webhook."""
    return _list_settings(WebhookSettings)


def _list_settings(kind: type[settings.Settings | ControllerSettings | WebhookSettings]) -> str:
    rows = []
    for field in dataclasses.fields(kind):
        flag = settings.flag(field)
        text = str(field.metadata["help"])
        default = (
            {True: "on", False: "off"}[field.default] if isinstance(field.default, bool) else str(field.default or "")
        )
        shown = f"--{flag}, --no-{flag}" if isinstance(field.default, bool) else f"--{flag}"
        default = f"`{default}`" if default and default != "()" else ""
        rows.append((f"`{shown}`", f"`{settings.variable(field)}`", default, _escape(text)))
    return _table(("option", "variable", "default", "meaning"), rows)


def write_permissions() -> str:
    """Verbs on each resource and what for."""
    verbs: dict[str, list[str]] = {}
    for permission in PERMISSIONS:
        verbs.setdefault(permission.resource, []).append(permission.verb)
    rows = ((f"`{name}`", ", ".join(known), REASONS[name]) for name, known in verbs.items())
    return _table(("resource", "verbs", "what for"), rows)


def write_metrics() -> str:
    """Name, type, labels and meaning of each metric of the plugin."""
    return _list_metrics(Metrics().registry)


def write_controller_metrics() -> str:
    """The same for the controller."""
    return _list_metrics(ControllerMetrics().registry)


def write_webhook_metrics() -> str:
    """The same for the webhook."""
    return _list_metrics(WebhookMetrics().registry)


def write_reasons() -> str:
    """Reasons of Events on claims that wait, and what each means."""
    return _table(("reason", "meaning"), ((f"`{reason.value}`", MEANINGS[reason]) for reason in Reason))


def _list_metrics(registry: CollectorRegistry) -> str:
    rows = []
    for metric in registry._collector_to_names:
        if isinstance(metric, MetricWrapperBase):
            (family,) = metric.collect()
            name = f"{family.name}_total" if family.type == "counter" else family.name
            labels = ", ".join(f"`{label}`" for label in metric._labelnames)
            rows.append((f"`{name}`", family.type, labels, _escape(family.documentation)))
    return _table(("metric", "type", "labels", "meaning"), sorted(rows))


def write_exits() -> str:
    """What each exit code means."""
    return _table(("code", "meaning"), ((f"`{code}`", text) for code, text in EXITS.items()))


def write_state_diagram() -> str:
    """States and what leads from one to another, as a picture that Markdown viewers draw (mermaid)."""
    arrows: dict[tuple[State, State], list[str]] = {}
    for (before, event), after in states.TABLE.items():
        for state in after:
            arrows.setdefault((before, state), []).append(event.value)
    lines = [f"    {before.value} --> {after.value}: {', '.join(events)}" for (before, after), events in arrows.items()]
    return "\n".join(["```mermaid", "stateDiagram-v2", f"    [*] --> {State.FREE.value}", *lines, "```", ""])


def write_admission() -> str:
    """What a claim can have in each state."""
    head = ("state", *(use.value for use in states.Use))
    rows = (
        (f"`{state.value}`", *("yes" if states.admits(state, use) else "no" for use in states.Use))
        for state in states.HELD
    )
    return _table(head, rows)


TABLES: Final[dict[str, Callable[[], str]]] = {
    "settings": write_settings,
    "controller settings": write_controller_settings,
    "controller metrics": write_controller_metrics,
    "webhook settings": write_webhook_settings,
    "webhook metrics": write_webhook_metrics,
    "reasons": write_reasons,
    "permissions": write_permissions,
    "metrics": write_metrics,
    "exit codes": write_exits,
    "states": write_state_diagram,
    "admission": write_admission,
}


def rewrite(text: str) -> str:
    """Return a document with all its tables as the code has them."""
    return _MARKED.sub(lambda match: f"{match[1]}{TABLES[match['name']]()}{match[3]}", text)


if __name__ == "__main__":
    for document in DOCUMENTS:
        document.write_text(rewrite(document.read_text()))
