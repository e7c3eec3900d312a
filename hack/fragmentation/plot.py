"""The simulated day as SVG: what share of the wanted GPUs was given, hour by hour. Equal days give equal bytes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Final

from hack.fragmentation.simulation import HOURS, Day

WIDTH: Final = 760
HEIGHT: Final = 420
LEFT: Final = 64
RIGHT: Final = 20
TOP: Final = 70
BOTTOM: Final = 64
COLOURS: Final = ("#0a8f6c", "#d9480f", "#2563eb")
STYLE: Final = """
text { font-family: system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif; fill: #1b2330 }
text { font-size: 12px }
.title { font-size: 17px; font-weight: 650 } .page { fill: #ffffff } .grid { stroke: #d5dbe5; stroke-width: 1 }
.line { fill: none; stroke-width: 2.5 } .band { stroke: none; opacity: 0.15 }
@media (prefers-color-scheme: dark) { text { fill: #e8ecf3 } .page { fill: #12161d } .grid { stroke: #313a48 } }
"""


def draw(days: Mapping[str, Sequence[Day]], title: str) -> str:
    """Return the document: a line for each allocator, the mean of its days, in a band from the worst to the best."""
    curves = {name: [_measure(runs, hour) for hour in range(HOURS)] for name, runs in days.items()}
    lowest = min(low for curve in curves.values() for low, _, _ in curve)
    floor = max(0.0, int(lowest * 20) / 20)
    body = [f'<rect class="page" width="{WIDTH}" height="{HEIGHT}"/>', _text(LEFT, 30, title, "title")]
    body.extend(_draw_grid(floor))
    for (name, curve), colour, number in zip(curves.items(), COLOURS, range(len(curves)), strict=False):
        body.extend(_draw_curve(curve, colour, floor))
        left = LEFT + number * 210
        body.append(f'<line x1="{left}" y1="50" x2="{left + 24}" y2="50" class="line" stroke="{colour}"/>')
        body.append(_text(left + 30, 54, name))
    size = f'width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-label="{escape(title)}">'
    return "\n".join([head, f"<title>{escape(title)}</title>", f"<style>{STYLE}</style>", *body, "</svg>"]) + "\n"


def _measure(runs: Sequence[Day], hour: int) -> tuple[float, float, float]:
    """Return the least, the mean and the greatest share of an hour."""
    shares = [day.given[hour] / day.wanted[hour] if day.wanted[hour] else 1.0 for day in runs]
    return min(shares), sum(shares) / len(shares), max(shares)


def _draw_grid(floor: float) -> Iterator[str]:
    steps = round((1 - floor) * 20)
    for step in range(steps + 1):
        share = floor + step / 20
        y = _y(share, floor)
        yield f'<line class="grid" x1="{LEFT}" y1="{y:.1f}" x2="{WIDTH - RIGHT}" y2="{y:.1f}"/>'
        yield _text(20, y + 4, f"{share:.0%}")
    for hour in range(0, HOURS + 1, 6):
        yield _text(_x(hour) - 14, HEIGHT - BOTTOM + 22, f"{(hour + 6) % 24:02}:00")
    yield _text(LEFT, HEIGHT - 14, "hour of the day; GPUs given as a share of GPUs asked for; bands: all seeds")


def _draw_curve(curve: Sequence[tuple[float, float, float]], colour: str, floor: float) -> Iterator[str]:
    above = [f"{_x(hour + 0.5):.1f},{_y(high, floor):.1f}" for hour, (_, _, high) in enumerate(curve)]
    below = [f"{_x(hour + 0.5):.1f},{_y(low, floor):.1f}" for hour, (low, _, _) in enumerate(curve)]
    middle = [f"{_x(hour + 0.5):.1f},{_y(mean, floor):.1f}" for hour, (_, mean, _) in enumerate(curve)]
    yield f'<polygon class="band" fill="{colour}" points="{" ".join(above + below[::-1])}"/>'
    yield f'<polyline class="line" stroke="{colour}" points="{" ".join(middle)}"/>'


def _x(hour: float) -> float:
    return LEFT + hour * (WIDTH - LEFT - RIGHT) / HOURS


def _y(share: float, floor: float) -> float:
    return TOP + (1 - share) / (1 - floor) * (HEIGHT - TOP - BOTTOM)


def _text(x: float, y: float, text: str, kind: str = "") -> str:
    attribute = f' class="{kind}"' if kind else ""
    return f'<text x="{x:.1f}" y="{y:.1f}"{attribute}>{escape(text)}</text>'
