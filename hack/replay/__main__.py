"""`hack/vectors FILE...`: recorded decisions of Kubernetes, decided again by us; every difference is printed.

A file holds one JSON object a line and may be compressed (.gz). What a line is about is told by its keys: `expression`
is a selector (cel.py), `scenario` an allocation (allocator.py). Exit code: 0 all agree, 1 some differ, 2 a file cannot
be read.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Final

import click

from hack.replay import allocator, cel
from hack.replay.files import UnreadableFileError, Vector, read

Check = Callable[[Vector], list[str]]
KINDS: Final[Mapping[str, tuple[str, Check]]] = {
    "expression": ("cel", cel.differences),
    "scenario": ("allocator", allocator.differences),
}
"""By the key that tells the kind of a vector: its name, and what lists the differences."""


@click.command()
@click.argument("files", nargs=-1, required=True)
def main(files: tuple[str, ...]) -> None:
    """Replay vectors and print passed, failed and each difference."""
    passed: Counter[str] = Counter()
    failed: Counter[str] = Counter()
    for file in files:
        try:
            for place, vector in read(file):
                kind, check = _kind(place, vector)
                differences = check(vector)
                (failed if differences else passed)[kind] += 1
                for difference in differences:
                    click.echo(f"{place}: {vector.get('id', '?')}: {difference}")
        except UnreadableFileError as error:
            click.echo(str(error), err=True)
            sys.exit(2)
    for kind in sorted({*passed, *failed}):
        click.echo(f"{kind}: {passed[kind]} passed, {failed[kind]} failed")
    sys.exit(1 if failed.total() else 0)


def _kind(place: str, vector: Vector) -> tuple[str, Check]:
    for key, kind in KINDS.items():
        if key in vector:
            return kind
    raise UnreadableFileError(
        f"{place}: a vector has one of the keys {', '.join(KINDS)}; this line has {', '.join(vector)}"
    )


if __name__ == "__main__":
    main()
