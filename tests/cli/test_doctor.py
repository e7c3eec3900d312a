"""`accel-dra doctor` as a person runs it: lines, a document, exit codes, and never a traceback."""

from __future__ import annotations

import itertools
import json
import tempfile
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from driver import settings
from driver.cli.commands import cli
from driver.cli.doctor import OPTIONS
from driver.node.app import Plugin
from driver.simulation.apiserver import ApiServer
from tests.fakes import kustomize
from tests.fakes.folders import Machine
from tests.fakes.installing import guarded_server, install, issue_token, make_node
from tests.fakes.waiting import wait_until

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def machine() -> Iterator[Machine]:
    # Socket paths have to be short, tmp_path is not.
    with tempfile.TemporaryDirectory(prefix="m") as root:
        yield Machine(Path(root))


def run(machine: Machine, *arguments: str) -> Result:
    """Run the command on this machine, with no variable of the environment in its way."""
    options = machine.settings()
    paths = [
        f"--{settings.flag(field)}={getattr(options, field.name)}" for field in fields(options) if field.name in SET
    ]
    clean = {settings.variable(field): None for field in fields(options)} | {"KUBERNETES_SERVICE_HOST": None}
    return CliRunner(env=clean).invoke(cli, ["doctor", *paths, *arguments])


SET = ("vendor", "cdi_root", "kubelet_plugins_dir", "kubelet_registry_dir", "proc_root")


def test_a_good_machine_gives_lines_a_summary_and_exit_code_0(machine: Machine) -> None:
    done = run(machine)
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert lines[0] == "ok       driver-root: driver root /"
    assert lines[-1].endswith(", 2 warning, 0 failed")
    assert done.stderr == ""


def test_every_warning_and_failure_is_followed_by_advice(machine: Machine) -> None:
    machine.registry.rmdir()
    lines = run(machine).stdout.splitlines()
    for line, following in itertools.pairwise(lines):
        if line.startswith(("warning", "failed ")):
            assert following.strip().startswith("->")


def test_a_failure_gives_exit_code_1(machine: Machine) -> None:
    machine.registry.rmdir()
    done = run(machine)
    assert done.exit_code == 1
    assert "failed   kubelet-folders: registration folder" in done.stdout
    assert done.stdout.splitlines()[-1].endswith("1 failed")


def test_a_document_for_machines(machine: Machine) -> None:
    machine.registry.rmdir()
    done = run(machine, "-o", "json")
    assert done.exit_code == 1
    report = json.loads(done.stdout)
    assert set(report) == {"findings", "summary"}
    assert report["summary"]["failed"] == 1
    assert sum(report["summary"].values()) == len(report["findings"])
    (failure,) = [finding for finding in report["findings"] if finding["level"] == "failed"]
    assert set(failure) == {"check", "level", "text", "advice"}
    assert failure["check"] == "kubelet-folders"


def test_one_wrong_setting_spoils_its_own_check_only(machine: Machine) -> None:
    done = run(machine, "--vendor=acme")
    assert done.exit_code == 1
    assert "failed   hardware: vendor: 'acme' is not allowed" in done.stdout
    assert "ok       cdi-folder" in done.stdout
    assert "Traceback" not in done.output


def test_an_option_that_cannot_be_understood_is_exit_code_2(machine: Machine) -> None:
    assert run(machine, "-o", "xml").exit_code == 2


def test_with_a_cluster_it_looks_at_both(machine: Machine) -> None:
    with ApiServer() as server:
        config = server.kubeconfig(machine.root / "config")
        node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node-a"}}
        server.store.create(node)  # type: ignore[arg-type]
        done = run(machine, f"--kubeconfig={config}", "--node-name=node-a", "-o", "json")
    checks = [finding["check"] for finding in json.loads(done.stdout)["findings"]]
    assert checks.index("state-folder") < checks.index("api-server") < checks.index("slices")
    assert done.exit_code == 0, done.output


def test_beside_a_running_plugin_everything_is_in_order(machine: Machine) -> None:
    """The plugin as deploy/base installs it: its own account, its role, the policy."""
    with guarded_server() as server:
        make_node(server, "node-a")
        install(server, kustomize.render(ROOT / "deploy" / "base"))
        config = str(server.kubeconfig(machine.root / "config", token=issue_token(server, "node-a")))
        machine.mount(machine.cdi, "tmpfs")
        with Plugin(machine.settings(node_name="node-a", kubeconfig=config)):
            wait_until(lambda: server.store.list("resourceslices"), "slices")
            done = run(machine, f"--kubeconfig={config}", "--node-name=node-a", "-o", "json")
    report = json.loads(done.stdout)
    assert done.exit_code == 0, done.output
    assert [finding for finding in report["findings"] if finding["level"] != "ok"] == []
    texts = {finding["check"]: finding["text"] for finding in report["findings"]}
    assert texts["registration"].startswith("the plugin serves on ")
    assert texts["slices"] == "8 devices in 1 slice of node node-a, allocated by kube-scheduler"


def test_it_takes_the_options_that_it_looks_at() -> None:
    """What only the running plugin uses would promise something here."""
    others = {field.name for field in fields(settings.Settings)} - set(OPTIONS)
    assert others == {
        "device_metadata",
        "scan_interval",
        "rescan_interval",
        "prepare_deadline",
        "metrics_address",
        "log_format",
        "log_level",
    }
