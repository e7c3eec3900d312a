"""The tables of docs/ that are written from the code. `hack/docs` rewrites them, a test sees that they are current."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterable
from typing import Final

from prometheus_client.metrics import MetricWrapperBase

from driver import settings
from driver.cli import commands
from driver.cli.checks.cluster import PERMISSIONS
from driver.cli.explain import EXIT_WAITING
from driver.telemetry.metrics import Metrics
from tests.docs.blocks import DOCUMENTS

_MARKED: Final = re.compile(r"(<!-- table: (?P<name>[a-z ]+) -->\n).*?(<!-- end -->)", re.DOTALL)

REASONS: Final = {
    "nodes": "its own Node, which owns its slices",
    "resourceslices": "publish this node's devices, and notice when a slice is changed or deleted",
    "resourceclaims": "the claim that a pod on this node is about to use",
    "events": "tell about claims and its Node what a person should know; works without",
}
EXITS: Final = {
    0: "It worked. `doctor`: nothing failed. `plugin`: it was asked to end. `explain`: nothing waits.",
    commands.EXIT_FAILED: "It failed; the last line says why. `doctor`: at least one line is `failed`.",
    commands.EXIT_USAGE: "An option or setting is wrong; the message names it, its value and what is allowed.",
    EXIT_WAITING: "`explain` only: something waits, for devices or for what the message names.",
    130: "Interrupted from the keyboard.",
}


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "".join(f"| {' | '.join(row)} |\n" for row in lines)


def _escape(text: str) -> str:
    """Return plain text as Markdown shows it in a cell."""
    return text.replace("<", "&lt;").replace("|", "\\|")


def write_settings() -> str:
    """Option, variable, default and meaning of each setting."""
    rows = []
    for field in dataclasses.fields(settings.Settings):
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
    """Name, type, labels and meaning of each metric."""
    rows = []
    for metric in Metrics().registry._collector_to_names:
        if isinstance(metric, MetricWrapperBase):
            (family,) = metric.collect()
            name = f"{family.name}_total" if family.type == "counter" else family.name
            labels = ", ".join(f"`{label}`" for label in metric._labelnames)
            rows.append((f"`{name}`", family.type, labels, _escape(family.documentation)))
    return _table(("metric", "type", "labels", "meaning"), sorted(rows))


def write_exits() -> str:
    """What each exit code means."""
    return _table(("code", "meaning"), ((f"`{code}`", text) for code, text in EXITS.items()))


TABLES: Final[dict[str, Callable[[], str]]] = {
    "settings": write_settings,
    "permissions": write_permissions,
    "metrics": write_metrics,
    "exit codes": write_exits,
}


def rewrite(text: str) -> str:
    """Return a document with all its tables as the code has them."""
    return _MARKED.sub(lambda match: f"{match[1]}{TABLES[match['name']]()}{match[3]}", text)


if __name__ == "__main__":
    for document in DOCUMENTS:
        document.write_text(rewrite(document.read_text()))
