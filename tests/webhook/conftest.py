"""A webhook and a caller for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from driver.webhook.app import Webhook
from tests.webhook.site import Caller, settings_for, write_pair


@pytest.fixture
def webhook(tmp_path: Path) -> Iterator[Webhook]:
    write_pair(tmp_path)
    with Webhook(settings_for(tmp_path)) as running:
        yield running


@pytest.fixture
def caller(webhook: Webhook) -> Iterator[Caller]:
    asking = Caller(webhook.port)
    yield asking
    asking.close()
