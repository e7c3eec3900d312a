"""The benchmarks run, and write what they promise to write. What they measure is no test's business."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from hack.bench.__main__ import SUITES
from hack.bench.figures import Report

ROOT = Path(__file__).resolve().parents[2]


def test_a_figure_is_the_median_and_the_99th_percentile() -> None:
    report = Report()
    figure = report.add("what", "ms", [float(number) for number in range(1, 201)], "p50 <= 1")
    assert (figure.minimum, figure.p50, figure.p99, figure.maximum, figure.samples) == (1, 100.5, 199, 200, 200)
    assert report.table().splitlines()[1].split() == [
        "what",
        "ms",
        "200",
        "1.00",
        "100.50",
        "199.00",
        "200.00",
        "p50",
        "<=",
        "1",
    ]


NAMES = {
    "nodes": (
        "start to published",
        "prepare",
        "unprepare",
        "resident memory, start",
        "resident memory, end",
    ),
    "partitions": (
        "prepare a partition, switching the mode",
        "unprepare a partition beside another",
        "the simulated hardware's part of it",
        "prepare a partition, beyond the hardware's part",
        "prepare one of 56 partitions, last rounds of 5",
    ),
    "vendors": ("snapshot, nvidia, hgx-h100-mig (56 devices)",),
    "daemons": ("MPS daemon with limits, steps of one claim", "memory for 24 daemons, of the plugin"),
    "decisions": ("slices, first plan, 64 GPUs",),
    "cel": ("cel: evaluate, three clauses",),
    "allocator": ("best-fit, whole-gpu-1000, 30 claims", "explain a claim, 100 full nodes"),
    "reviews": ("review a claim, good", "webhook: a claim over HTTPS"),
    "controller": ("claim to allocation, 2 nodes", "claims at once, 2 nodes", "controller memory, 2 nodes"),
}


def test_every_suite_is_tried() -> None:
    assert set(NAMES) == set(SUITES)


@pytest.mark.parametrize("suite", SUITES)
def test_a_suite_runs_and_writes_its_figures(suite: str, tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    few = ["--count", "3", "--cycles", "5", "--nodes", "2"]
    command = [sys.executable, "-m", "hack.bench", "--suite", suite, *few, "--json", str(figures)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    measured = {figure["name"]: figure for figure in json.loads(figures.read_text())["figures"]}
    for name in NAMES[suite]:
        assert measured[name]["p50"] > 0
        assert name in done.stdout


def test_a_plugin_that_fails_is_not_measured(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hack.bench", "--suite", "nodes", "--kubeconfig", str(tmp_path / "none")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "none" in done.stderr
