"""The webhook as a process: how it begins, what it says of itself, and how it ends."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from driver.model.errors import InvalidInput
from driver.simulation.processes import DriverProcess
from driver.webhook import settings as settings_module
from driver.webhook.app import Webhook
from driver.webhook.settings import WebhookSettings
from tests.fakes.waiting import wait_until
from tests.webhook.site import Caller, claim, config, metric, read_page, settings_for, write_pair


@pytest.fixture
def port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@pytest.fixture
def process(tmp_path: Path, port: int) -> Iterator[DriverProcess]:
    write_pair(tmp_path)
    options = {
        "address": f"127.0.0.1:{port}",
        "tls-cert-file": str(tmp_path / "tls.crt"),
        "tls-key-file": str(tmp_path / "tls.key"),
        "kubeconfig": str(tmp_path / "none"),
        "log-format": "json",
        "shutdown-delay": "3",
    }
    (tmp_path / "none").write_text(
        '{"clusters": [{"name": "c", "cluster": {"server": "http://127.0.0.1:1"}}], '
        '"contexts": [{"name": "x", "context": {"cluster": "c"}}], "current-context": "x"}'
    )
    running = DriverProcess("webhook", options, tmp_path / "log")
    yield running
    running.stop()


def is_served(port: int) -> bool:
    caller = Caller(port)
    try:
        return bool(caller.ask(claim(config()))["allowed"])
    except OSError:
        return False
    finally:
        caller.close()


def test_it_answers_until_nobody_asks_any_more_and_ends_well(process: DriverProcess, port: int) -> None:
    wait_until(lambda: is_served(port), "the first answer")
    caller = Caller(port)
    caller.ask(claim(config("Mps")))
    os.kill(process.pid, signal.SIGTERM)
    assert is_served(port)  # the Service may still lead here
    wait_until(lambda: process.exit_code is not None, "the end")
    caller.close()
    assert process.exit_code == 0, process.read_log()
    log = process.read_log()
    assert '"message": "serving with this certificate"' in log
    assert '"message": "object reviewed"' in log
    assert "Traceback" not in log


def test_pages_tell_how_it_is(tmp_path: Path) -> None:
    write_pair(tmp_path)
    webhook = Webhook(settings_for(tmp_path, shutdown_delay=60.0))
    webhook.start()
    assert read_page(webhook, "/readyz") == (200, "ok\n")
    assert read_page(webhook, "/healthz") == (200, "ok\n")
    assert metric(webhook, "certificate_expiry_timestamp_seconds") > 1e9
    ending = threading.Thread(target=webhook.end)
    ending.start()
    wait_until(lambda: read_page(webhook, "/readyz") == (503, "ending\n"), "not to be ready")
    webhook.stop()
    ending.join()


def test_a_port_that_is_taken_is_told_and_nothing_is_left_behind(tmp_path: Path) -> None:
    write_pair(tmp_path)
    with Webhook(settings_for(tmp_path)) as first:
        with pytest.raises(InvalidInput, match="address"):
            Webhook(settings_for(tmp_path, address=f"127.0.0.1:{first.port}"))
        with pytest.raises(InvalidInput, match="metrics-address"):
            Webhook(settings_for(tmp_path, metrics_address=f"127.0.0.1:{first.metrics_port}"))
        assert not [each for each in threading.enumerate() if each.name.startswith("watch")]


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("driver_name", "No Name"),
        ("tls_cert_file", ""),
        ("tls_key_file", ""),
        ("certificate_interval", 0.0),
        ("review_time", float("inf")),
        ("api_timeout", -1.0),
        ("shutdown_delay", -1.0),
        ("address", ""),
        ("address", "9443"),
        ("metrics_address", "x"),
    ],
)
def test_a_wrong_setting_is_named(tmp_path: Path, setting: str, value: Any) -> None:
    settings = settings_for(tmp_path)
    assert settings_module.check(settings) is settings
    with pytest.raises(InvalidInput) as caught:
        settings_module.check(settings_for(tmp_path, **{setting: value}))
    assert caught.value.field == setting.replace("_", "-")


def test_the_command_names_a_missing_certificate_and_ends_with_2() -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ACCEL_DRA_")}
    done = subprocess.run(
        [sys.executable, "-m", "driver", "webhook"],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
        env=environment,
    )
    assert done.returncode == 2
    assert re.search(r"tls-cert-file: '' is not allowed; allowed: the path of a PEM file", done.stderr)


def test_defaults_are_those_of_a_pod() -> None:
    settings = WebhookSettings(tls_cert_file="a", tls_key_file="b")
    assert settings_module.check(settings) is settings
    assert settings.watch
