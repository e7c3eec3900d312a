"""The plugin as a process: it says why it does not start, ends in good order or by force, and never outlives us."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from driver.settings import ENV_PREFIX
from driver.simulation import processes
from driver.simulation.processes import DriverProcess
from tests.fakes.waiting import wait_until

ROOT: Final = Path(__file__).resolve().parents[2]


def test_a_plugin_that_cannot_start_says_why_in_its_log(tmp_path: Path) -> None:
    process = DriverProcess("plugin", {"node-name": "n", "vendor": "acme"}, tmp_path / "log")
    wait_until(lambda: process.exit_code is not None, "the end")
    assert process.exit_code == 2
    assert "'acme' is not allowed" in process.read_log()
    assert process.stop() == 2, "what has ended need not be ended"


def test_options_may_be_repeated_and_our_own_environment_is_not_the_plugins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"{ENV_PREFIX}LOG_LEVEL", "nonsense")
    options = {"node-name": "n", "vendor-option": ["good=1", "bad"]}
    process = DriverProcess("plugin", options, tmp_path / "log")
    wait_until(lambda: process.exit_code is not None, "the end")
    assert "vendor-option: 'bad' is not allowed" in process.read_log()
    assert "nonsense" not in process.read_log()


def _endless(tmp_path: Path) -> DriverProcess:
    """Return a plugin whose first look never ends, because its node file is a pipe that nobody writes."""
    os.mkfifo(tmp_path / "node.json")
    config = tmp_path / "config"
    config.write_text(
        "clusters: [{name: c, cluster: {server: 'http://127.0.0.1:9'}}]\n"
        "contexts: [{name: c, context: {cluster: c, user: u}}]\nusers: [{name: u, user: {}}]\ncurrent-context: c\n"
    )
    (tmp_path / "r").mkdir()
    options = {
        "node-name": "n",
        "vendor": "simulated",
        "vendor-option": f"node={tmp_path}/node.json",
        "kubeconfig": str(config),
        "kubelet-plugins-dir": str(tmp_path / "p"),
        "kubelet-registry-dir": str(tmp_path / "r"),
        "cdi-root": str(tmp_path / "cdi"),
    }
    process = DriverProcess("plugin", options, tmp_path / "log")
    wait_until((tmp_path / "cdi").is_dir, "the plugin to begin")
    return process


def test_kill_is_like_a_crash(tmp_path: Path) -> None:
    process = _endless(tmp_path)
    process.kill()
    assert process.exit_code == -signal.SIGKILL, "it ran until then"
    assert not Path(f"/proc/{process.pid}").exists()


def test_a_plugin_that_does_not_end_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "_STOP_SECONDS", 0.2)
    process = _endless(tmp_path)
    os.kill(process.pid, signal.SIGSTOP)
    assert process.stop() == -signal.SIGKILL


def test_no_plugin_outlives_the_process_that_started_it(tmp_path: Path) -> None:
    code = f"""
import os, signal
from pathlib import Path
from tests.simulation.test_processes import _endless
print(_endless(Path({str(tmp_path)!r})).pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False, timeout=50
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    wait_until(lambda: not _is_running(int(done.stdout)), "the plugin to end")


def _is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
