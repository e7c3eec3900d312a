"""`hack/fragmentation/run`: play the day with every allocator and every seed; a table, and a plot."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import click

from hack.fragmentation import plot
from hack.fragmentation.days import MIX
from hack.fragmentation.machines import WHOLE
from hack.fragmentation.simulation import ALLOCATORS, Day, play

LARGE = ("7g.40gb", WHOLE)


@click.command()
@click.option("--seed", "first_seed", default=1, show_default=True, help="The first seed; the others follow it.")
@click.option("--seeds", default=5, show_default=True, help="How many days are played.")
@click.option("--nodes", default=64, show_default=True, help="Nodes of 8 A100 each.")
@click.option("--load", default=0.9, show_default=True, help="What is asked for on average, as a share of the cluster.")
@click.option("--svg", "svg_file", default="", help="Draw the day into this file.")
def main(first_seed: int, seeds: int, nodes: int, load: float, svg_file: str) -> None:
    """Say how many requests find a place when they come: best-fit against first-fit. Takes minutes."""
    runs = [(name, seed) for name in ALLOCATORS for seed in range(first_seed, first_seed + seeds)]
    with ProcessPoolExecutor() as pool:
        played = list(pool.map(_play, *zip(*((name, seed, nodes, load) for name, seed in runs), strict=True)))
    days: dict[str, list[Day]] = {name: [] for name in ALLOCATORS}
    for (name, _), day in zip(runs, played, strict=True):
        days[name].append(day)
    click.echo(f"{nodes} nodes, load {load}, seeds {first_seed} to {first_seed + seeds - 1}")
    click.echo(make_table(days))
    if svg_file:
        Path(svg_file).write_text(plot.draw(days, f"Share of GPUs given: {nodes} nodes of 8 A100, load {load}"))


def _play(name: str, seed: int, nodes: int, load: float) -> Day:
    return play(name, seed, nodes, load)


def make_table(days: dict[str, list[Day]]) -> str:
    """Return the figures as Markdown: mean of the seeds, and the range."""
    small = [kind for kind in MIX if kind not in LARGE]
    rows = ["| | requests placed | by GPUs asked for | whole GPUs and 7g | smaller partitions | cluster in use |"]
    rows.append("|---|---|---|---|---|---|")
    for name, runs in days.items():
        columns = [
            [day.share for day in runs],
            [day.weighted_share for day in runs],
            [day.share_of(*LARGE) for day in runs],
            [day.share_of(*small) for day in runs],
            [sum(day.used) / max(len(day.used), 1) for day in runs],
        ]
        rows.append("| " + " | ".join([name, *map(_spell, columns)]) + " |")
    return "\n".join(rows)


def _spell(shares: list[float]) -> str:
    mean = sum(shares) / len(shares)
    return f"{mean:.1%} ({min(shares):.1%} to {max(shares):.1%})"


if __name__ == "__main__":
    main()
