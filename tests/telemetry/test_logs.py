"""Log lines say what happened, in JSON or text, with the right level."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import pytest

from driver.model import occurrences
from driver.telemetry import logs


@pytest.fixture(autouse=True)
def _restore() -> Iterator[None]:
    handlers, propagate, level = logs.LOGGER.handlers, logs.LOGGER.propagate, logs.LOGGER.level
    yield
    logs.LOGGER.handlers, logs.LOGGER.propagate = handlers, propagate
    logs.LOGGER.setLevel(level)


def test_a_json_line_has_time_level_message_and_fields(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("json", "info")
    logs.log_occurrence(occurrences.ClaimPrepared(claim="a/b (u)", seconds=0.004, devices=2))
    line = json.loads(capsys.readouterr().err)
    assert line["level"] == "info"
    assert line["message"] == "claim prepared"
    assert (line["claim"], line["devices"], line["seconds"]) == ("a/b (u)", 2, 0.004)
    assert line["time"].endswith("+00:00")


def test_text_for_a_terminal_leaves_empty_fields_out(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("text", "info")
    logs.log_occurrence(occurrences.ClaimUnprepared(claim="a/b (u)", seconds=0.001))
    text = capsys.readouterr().err
    assert "claim=a/b (u)" in text
    assert "error=" not in text


@pytest.mark.parametrize(
    ("occurrence", "level"),
    [
        (occurrences.ClaimPrepared(claim="c", seconds=0, devices=0, reason="DeviceBusy", error="held"), "error"),
        (occurrences.HardwareScanned(seconds=0, devices=7, omitted=(("0000:1a:00.0", "GPU is lost"),)), "warning"),
        (occurrences.HardwareScanned(seconds=0, devices=8, omitted=()), "info"),
        (occurrences.ModeSet("dynamic", "the setting"), "info"),
        (occurrences.ModeRefused("accel-dra.dev/partitions", "on", "off, static, dynamic", "off"), "warning"),
        (occurrences.NodeUnheard("Unavailable", "away"), "warning"),
        (occurrences.HardwareChanged("a/b (u)", "partition", "run", "profile 1g.10gb", 0.2), "info"),
        (occurrences.HardwareUnavailable(reason="libnvidia-ml.so.1 not found"), "warning"),
        (occurrences.AuthorityPublished("n", "controller", "controller"), "info"),
        (occurrences.AuthorityPublished("n", "controller", "scheduler"), "warning"),
        (occurrences.Registered(accepted=False, error="no"), "error"),
        (occurrences.RecordQuarantined(path="p", reason="r"), "error"),
        (occurrences.DaemonStarted("mps-gpu-0", 7, "again"), "info"),
        (occurrences.DaemonEnded("mps-gpu-0", "it ended (exit status 1)", 2.0), "warning"),
        (occurrences.DaemonStopped("mps-gpu-0"), "info"),
    ],
)
def test_the_level_says_how_bad_it_is(
    occurrence: occurrences.Occurrence, level: str, capsys: pytest.CaptureFixture[str]
) -> None:
    logs.configure("json", "debug")
    logs.log_occurrence(occurrence)
    assert json.loads(capsys.readouterr().err)["level"] == level


def test_levels_below_the_setting_are_not_written(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("json", "error")
    logs.LOGGER.log(logging.WARNING, "quiet")
    assert capsys.readouterr().err == ""


def test_an_exception_is_part_of_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("json", "info")
    try:
        raise ValueError("broken")  # noqa: TRY301 - the traceback is what is tested
    except ValueError:
        logs.LOGGER.exception("failed")
    assert "ValueError: broken" in json.loads(capsys.readouterr().err)["exception"]


def test_no_field_takes_the_place_of_the_message(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("json", "info")
    logs.log_occurrence(occurrences.HealthReported("0000:1a:00.0", "xid-79", "unhealthy", "fallen off the bus"))
    line = json.loads(capsys.readouterr().err)
    assert (line["message"], line["detail"]) == ("health of a device changed", "fallen off the bus")
    assert line["level"] == "warning"
