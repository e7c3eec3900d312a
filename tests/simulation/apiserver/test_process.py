"""The server as a process: `python -m driver.simulation.apiserver`."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest
import yaml

from tests.fakes.processes import ending

COMMAND = [sys.executable, "-m", "driver.simulation.apiserver"]


def test_it_serves_until_it_is_told_to_stop(tmp_path: Path) -> None:
    config = tmp_path / "config"
    words = [*COMMAND, "--kubeconfig", str(config), "--minor", "35", "--token", "secret"]
    with ending(subprocess.Popen(words, stdout=subprocess.PIPE, text=True)) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        document = yaml.safe_load(config.read_text())
        assert document["clusters"][0]["cluster"]["server"] == url.replace("http://", "http://token:secret@")
        token = document["users"][0]["user"]["token"]
        request = urllib.request.Request(f"{url}/api/v1/namespaces", headers={"Authorization": f"Bearer {token}"})
        with urllib.request.urlopen(request, timeout=20) as response:
            assert len(json.load(response)["items"]) == 4
        with urllib.request.urlopen(f"{url}/version", timeout=20) as response:
            assert json.load(response)["gitVersion"] == "v1.35.0"
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(f"{url}/api/v1/namespaces", timeout=20)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=20)
    assert process.returncode == 0


def test_an_unknown_version_is_refused() -> None:
    done = subprocess.run([*COMMAND, "--minor", "33"], capture_output=True, text=True, timeout=40, check=False)
    assert done.returncode == 2
    assert "no feature gates known for Kubernetes 1.33" in done.stderr
