"""Counts vectors: recorded decisions of Kubernetes that tests replay, in the last lines of the output.

A test says `record_property("vectors", "cel 26 26")`: kind, how many agree, how many there are. Works under xdist.
"""

from __future__ import annotations

from collections import Counter

import pytest


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    agreeing: Counter[str] = Counter()
    total: Counter[str] = Counter()
    for reports in terminalreporter.stats.values():
        for report in reports:
            if isinstance(report, pytest.TestReport) and report.when == "call":
                for name, value in report.user_properties:
                    if name == "vectors":
                        kind, agree, count = str(value).split()
                        agreeing[kind] += int(agree)
                        total[kind] += int(count)
    for kind in sorted(total):
        terminalreporter.write_line(f"vectors: {kind} {agreeing[kind]} of {total[kind]}")
