"""What is started and stopped as a whole: the processes of the driver, and the simulated cluster."""

from __future__ import annotations

from abc import ABC, abstractmethod
from types import TracebackType
from typing import Self


class Service(ABC):
    """A context manager: entering starts it, leaving stops it, and a start that fails stops what had begun."""

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @abstractmethod
    def start(self) -> None:
        """Start the parts in order."""

    @abstractmethod
    def stop(self) -> None:
        """Stop the parts in order; also after a start that failed half-way."""
