"""Which mode of partitions holds on this node: the setting, or what a label of the Node says instead.

`app` composes and starts it; the scanner's build asks `mode`. The label is watched, so that an administrator switches a
node with `kubectl label node NODE accel-dra.dev/partitions=dynamic` while pods run. A value that is no mode changes
nothing and is told once. While the API server is away the last mode stays. Must not decide what a mode means.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final

from driver.core.offering import Mode
from driver.core.suggesting import find_nearest
from driver.kube.client import Client
from driver.kube.watching import Change, Pace, Source, Watch, What
from driver.model.errors import Forbidden, Unavailable
from driver.model.objects import Node, ObjectMeta
from driver.model.occurrences import Emit, ModeRefused, ModeSet, NodeUnheard
from driver.model.vocabulary import PARTITIONS_LABEL

_GLANCE_SECONDS: Final = 0.05
_SETTING: Final = "the setting"
_MODES: Final = {mode.value: mode for mode in Mode}


class Modes:
    """Follows the label on one Node. `changed` is called after each change of `mode`, on the watch's thread."""

    def __init__(
        self,
        client: Client,
        node: str,
        setting: Mode,
        changed: Callable[[], None],
        emit: Emit,
        pace: Pace | None = None,
    ) -> None:
        self._setting = setting
        self._changed = changed
        self._emit = emit
        source = Source("/api/v1/nodes", Node, f"metadata.name={node}", trim=_trim)
        self._watch = Watch(client, source, self._hear, self._complain, pace)
        self._refused: str | None = None
        self._told = ""
        self._forbidden = threading.Event()
        self.mode = setting
        """What holds now."""

    def start(self) -> None:
        """Begin to listen."""
        self._emit(ModeSet(self.mode.value, _SETTING))
        self._watch.start()

    def stop(self) -> None:
        """End the thread."""
        self._watch.stop()

    def wait(self, timeout: float) -> None:
        """Return once the label was read for the first time, or cannot be read at all.

        Raises `Unavailable` after `timeout` seconds: nothing should be published that the label may contradict.
        """
        end = time.monotonic() + timeout
        while not self._watch.wait_until_synced(_GLANCE_SECONDS):
            if self._forbidden.is_set():
                return
            if time.monotonic() >= end:
                raise Unavailable("the labels of this Node are not known yet: the API server does not answer")

    def _hear(self, change: Change[Node]) -> None:
        if change.what is not What.DELETED:  # without its Node nobody asks this node for anything
            self._take(change.object.metadata.labels.get(PARTITIONS_LABEL))

    def _take(self, value: str | None) -> None:
        if value is None:
            self._refused = None
            self._replace(self._setting, _SETTING)
        elif value in _MODES:
            self._refused = None
            self._replace(_MODES[value], f"the label {PARTITIONS_LABEL}")
        elif value != self._refused:
            self._refused = value
            nearest = find_nearest(value, _MODES)
            self._emit(ModeRefused(PARTITIONS_LABEL, value, _list_modes(nearest), self.mode.value))

    def _replace(self, mode: Mode, source: str) -> None:
        if mode is not self.mode:
            self.mode = mode
            self._emit(ModeSet(mode.value, source))
            self._changed()

    def _complain(self, error: Exception) -> None:
        """Tell each reason once; without the right to read Nodes, which an older installation lacks, go on without."""
        if isinstance(error, Forbidden):
            self._forbidden.set()
        if str(error) != self._told:
            self._told = str(error)
            self._emit(NodeUnheard(type(error).__name__, str(error)))


def _trim(node: Node) -> Node:
    """Keep of a Node what is looked at: it changes every few seconds, and has hundreds of labels in some clusters."""
    labels = {name: value for name, value in node.metadata.labels.items() if name == PARTITIONS_LABEL}
    meta = node.metadata
    return Node(
        metadata=ObjectMeta(name=meta.name, uid=meta.uid, resource_version=meta.resource_version, labels=labels)
    )


def _list_modes(nearest: str | None) -> str:
    meant = f" ({nearest} was probably meant)" if nearest else ""
    return f"{', '.join(_MODES)}{meant}"
