"""One instance of the plugin's supervisor, and as many more as a test wants."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.daemons.bench import Bench, open_benches


@pytest.fixture
def benches(tmp_path: Path) -> Iterator[Callable[[], Bench]]:
    yield from open_benches(tmp_path)


@pytest.fixture
def bench(benches: Callable[[], Bench]) -> Bench:
    return benches()
