"""How long the kubelet waits for what. One frozen value a kubelet; `speed` divides the waits, never the limits."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Timings:
    """Seconds, as in Kubernetes v1.36. Waits are divided by `speed`; limits of calls are what a plugin must keep."""

    speed: float = 1.0
    dial_limit: float = 10.0
    info_limit: float = 1.0
    """GetInfo (operation_generator.go)."""
    notify_limit: float = 5.0
    call_limit: float = 45.0
    """NodePrepareResources and NodeUnprepareResources (dra_plugin.go, defaultClientCallTimeout)."""

    @property
    def reconcile(self) -> float:
        """Between two looks at the registry folder (plugin_manager.go)."""
        return 1.0 / self.speed

    @property
    def first_backoff(self) -> float:
        """Before a failed registration is tried again; doubles each time."""
        return 0.5 / self.speed

    @property
    def last_backoff(self) -> float:
        """The longest wait for a failed registration."""
        return 122.0 / self.speed

    @property
    def wipe_delay(self) -> float:
        """From the loss of the last connection to a driver until its slices are deleted (defaultWipingDelay)."""
        return 30.0 / self.speed

    @property
    def resync(self) -> float:
        """Before a pod whose claims could not be prepared is tried again; times 1 to 1.5 (SyncFrequency)."""
        return 60.0 / self.speed

    @property
    def terminate_backoff(self) -> float:
        """Before unprepare is tried again; times 1 to 1.5 (backOffOnTransientErrorPeriod)."""
        return 10.0 / self.speed

    @property
    def health_retry(self) -> float:
        """Before a health stream that ended is opened again (dra_plugin_manager.go)."""
        return 5.0 / self.speed

    @property
    def orphans(self) -> float:
        """Between two looks for claims of pods that are gone (manager.go, reconcilePeriod)."""
        return 60.0 / self.speed
