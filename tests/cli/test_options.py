"""Settings become flags and environment variables; a wrong one is one sentence and exit code 2."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import click
import pytest
from click.testing import CliRunner

from driver import settings as settings_module
from driver.cli.options import settings_options
from driver.model.errors import InvalidInput
from driver.settings import Settings


@click.command()
@settings_options()
def show(settings: Settings) -> None:
    click.echo(repr(settings))


def invoke(*arguments: str, env: Mapping[str, str] | None = None) -> str:
    result = CliRunner().invoke(show, arguments, env=env, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_without_arguments_the_defaults_hold() -> None:
    assert repr(Settings()) in invoke()


def test_every_setting_has_a_flag_an_environment_variable_and_an_explanation() -> None:
    text = CliRunner().invoke(show, ["--help"], terminal_width=400).output
    for field in dataclasses.fields(Settings):
        assert f"--{settings_module.flag(field)}" in text
        assert settings_module.variable(field) in text
        assert field.metadata["help"][:30] in text


def test_flags_and_environment_are_read() -> None:
    text = invoke(
        "--vendor-option",
        "node=t4",
        "--vendor-option",
        "a=b",
        "--no-device-metadata",
        env={"ACCEL_DRA_NODE_NAME": "node-1", "ACCEL_DRA_SCAN_INTERVAL": "0.5"},
    )
    assert "vendor_options=('node=t4', 'a=b')" in text
    assert "device_metadata=False" in text
    assert "node_name='node-1'" in text
    assert "scan_interval=0.5" in text


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        (["--driver-name", "GPU.example"], "driver-name"),
        (["--driver-name", "a" * 64], "driver-name"),
        (["--node-name", "no/slash"], "node-name"),
        (["--cdi-root", "relative/path"], "cdi-root"),
        (["--state-dir", "state"], "state-dir"),
        (["--scan-interval", "0"], "scan-interval"),
        (["--scan-interval", "inf"], "scan-interval"),
        (["--api-timeout", "nan"], "api-timeout"),
        (["--api-timeout", "-1"], "api-timeout"),
        (["--prepare-deadline", "45"], "prepare-deadline"),
        (["--metrics-address", "9400"], "metrics-address"),
        (["--metrics-address", "host:99999"], "metrics-address"),
        (["--vendor-option", "novalue"], "vendor-option"),
        (["--vendor-option", "=x"], "vendor-option"),
    ],
)
def test_a_wrong_setting_names_the_flag_the_value_and_what_is_allowed(arguments: list[str], field: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        CliRunner().invoke(show, arguments, catch_exceptions=False)
    assert caught.value.field == field
    assert caught.value.allowed
    assert repr(caught.value.value) in str(caught.value)


def test_paths_derive_from_the_driver_name() -> None:
    settings = Settings(driver_name="gpu.example.org")
    assert settings.data_dir == "/var/lib/kubelet/plugins/gpu.example.org"
    assert settings.records_root == settings.data_dir
    assert dataclasses.replace(settings, state_dir="/s").records_root == "/s"
    assert dataclasses.replace(settings, driver_root="/run/d").roots.driver_root_mount == "/run/d"
