"""`accel-dra doctor`: runs the checks one after the other and says what to do about what they find."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Final

import click

from driver.cli.checks.cluster import Cluster
from driver.cli.checks.daemons import Daemons
from driver.cli.checks.findings import Check, Finding, Level, examine
from driver.cli.checks.folders import Folders
from driver.cli.checks.hardware import Hardware
from driver.cli.options import settings_options
from driver.settings import Settings

OPTIONS: Final = (
    "node_name",
    "driver_name",
    "vendor",
    "vendor_options",
    "kubeconfig",
    "pod_uid",
    "driver_root",
    "driver_root_mount",
    "dev_root",
    "dev_root_mount",
    "sys_root",
    "proc_root",
    "cdi_root",
    "kubelet_plugins_dir",
    "kubelet_registry_dir",
    "state_dir",
    "daemon_cgroup",
    "allocation_authority",
    "partitions",
    "partition_profiles",
    "shares",
    "passthrough",
    "api_timeout",
)
_COLORS: Final = {Level.OK: "green", Level.WARNING: "yellow", Level.FAILED: "red"}
_WIDTH: Final = len("warning")
_EXIT_FAILED: Final = 1


@click.command("doctor")
@settings_options(*OPTIONS)
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", help="Format of the report.")
@click.pass_context
def command(context: click.Context, settings: Settings, output: str) -> None:
    """Check everything the plugin needs on this node and in the cluster. Changes nothing.

    Each line is ok, warning (it works, with a limitation) or failed (it does not work), with what to do.
    Exit codes: 0 nothing failed; 1 something failed; 2 an option is wrong.
    """
    cluster = Cluster(settings, os.environ)
    node = (Hardware(settings), Folders(settings), Daemons(settings))
    checks = [check for each in (*node, cluster) for check in each.list_checks()]
    try:
        report = _print_json(checks) if output == "json" else _print_text(checks)
    finally:
        cluster.close()
    if Level.FAILED in report:
        context.exit(_EXIT_FAILED)


def _run(checks: list[Check]) -> Iterator[tuple[Check, Finding]]:
    for check in checks:
        for finding in examine(check, _show_progress):
            yield check, finding


def _show_progress(title: str) -> None:
    click.echo(f"  ... {title}", err=True)


def _print_text(checks: list[Check]) -> list[Level]:
    """Print each line as soon as it is known, then a summary."""
    levels: list[Level] = []
    indent = " " * (_WIDTH + 2)
    for check, finding in _run(checks):
        level = click.style(finding.level.value.ljust(_WIDTH), fg=_COLORS[finding.level])
        click.echo(f"{level}  {check.name}: {finding.text}")
        if finding.advice:
            click.echo(f"{indent}-> {finding.advice}")
        levels.append(finding.level)
    counts = ", ".join(f"{levels.count(level)} {level.value}" for level in Level)
    click.echo(f"\n{counts}")
    return levels


def _print_json(checks: list[Check]) -> list[Level]:
    """Print one document: `findings` in order, and `summary`, the number of each level."""
    results = list(_run(checks))
    levels = [finding.level for _, finding in results]
    findings = [
        {"check": check.name, "level": finding.level.value, "text": finding.text, "advice": finding.advice}
        for check, finding in results
    ]
    summary = {level.value: levels.count(level) for level in Level}
    click.echo(json.dumps({"findings": findings, "summary": summary}, indent=2))
    return levels
