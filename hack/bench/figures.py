"""Figures of a benchmark: medians and percentiles of samples, as a table for a person and JSON for a machine."""

from __future__ import annotations

import json
import platform
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Final

PAGE: Final = 4096


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured thing: `p50`, `p99`, `minimum` and `maximum` of `samples` values in `unit`, and its promise."""

    name: str
    unit: str
    samples: int
    minimum: float
    p50: float
    p99: float
    maximum: float
    promise: str = ""


@dataclass(slots=True)
class Report:
    """The figures of one run, in the order in which they were measured."""

    figures: list[Figure] = field(default_factory=list)

    def add(self, name: str, unit: str, samples: Sequence[float], promise: str = "") -> Figure:
        """Summarise samples and keep the figure."""
        ordered = sorted(samples)
        figure = Figure(
            name=name,
            unit=unit,
            samples=len(ordered),
            minimum=ordered[0],
            p50=statistics.median(ordered),
            p99=ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))],
            maximum=ordered[-1],
            promise=promise,
        )
        self.figures.append(figure)
        return figure

    def table(self) -> str:
        """Return the figures as aligned columns."""
        head = ("what", "unit", "n", "min", "p50", "p99", "max", "promise")
        rows = [head, *(_row(figure) for figure in self.figures)]
        widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
        return "\n".join(
            "  ".join(
                cell.ljust(width) if column in (0, 1, 7) else cell.rjust(width)
                for column, (cell, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in rows
        )

    def json(self) -> str:
        """Return the figures and the machine as JSON."""
        machine = {"python": platform.python_version(), "machine": platform.machine(), "cpus": len(_cpus())}
        return json.dumps({"machine": machine, "figures": [asdict(figure) for figure in self.figures]}, indent=2)


def _row(figure: Figure) -> tuple[str, ...]:
    numbers = (figure.minimum, figure.p50, figure.p99, figure.maximum)
    return (
        figure.name,
        figure.unit,
        str(figure.samples),
        *(f"{number:.2f}" for number in numbers),
        figure.promise,
    )


def _cpus() -> list[str]:
    return [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("processor")]


def time_calls(function: Callable[[], object], count: int, warmup: int = 3) -> list[float]:
    """Call `function` and return the milliseconds of each call after the warm-up."""
    for _ in range(warmup):
        function()
    samples = []
    for _ in range(count):
        start = perf_counter()
        function()
        samples.append((perf_counter() - start) * 1000)
    return samples


def resident_mebibytes(pid: int) -> float:
    """Return the resident memory of a process (VmRSS of /proc/<pid>/status)."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * PAGE / 2**20
