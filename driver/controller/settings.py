"""The controller's settings, in one frozen class. Flags, environment variables and the docs table come from it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from driver import settings as shared
from driver.core import leasing
from driver.core.deciding.memory import Patience
from driver.core.leasing import Terms
from driver.model import vocabulary
from driver.model.errors import InvalidInput
from driver.settings import setting


@dataclass(frozen=True, slots=True, kw_only=True)
class ControllerSettings:
    """`help` of each field is what `accel-dra controller --help` and docs/controller.md say."""

    driver_name: str = setting(
        vocabulary.DEFAULT_DRIVER_NAME, "Driver under whose name claims and classes carry an AllocationPolicy."
    )
    kubeconfig: str = setting("", "Path of a kubeconfig; empty: the pod's service account.")
    pod_name: str = setting("", "Name of our pod, for the lease and Events; empty: the host name.")
    namespace: str = setting("accel-dra", "Namespace of the lease.")
    lease_name: str = setting("accel-dra-controller", "Name of the lease that decides which controller leads.")
    lease_duration: int = setting(15, "Seconds without a renewal after which another controller may lead.")
    renew_deadline: float = setting(
        10.0, "Seconds without a renewal after which the leader stops writing; the rest is for writes under way."
    )
    lease_retry: float = setting(2.0, "Seconds between attempts to take or renew the lease.")
    refusal_memory: float = setting(
        300.0, "Seconds for which a node is passed over for a claim after kube-scheduler did not take it there."
    )
    grace: float = setting(60.0, "Seconds after which an allocation that no pod uses is taken back.")
    fence_delay: float = setting(
        10.0, "Seconds for which a pool is left alone after it was seen to pass from kube-scheduler to the controller."
    )
    explain_after: float = setting(
        5.0, "Seconds that a claim has to wait before Events say why: most wait for a moment only."
    )
    explain_every: float = setting(
        15.0, "Seconds between two looks at why claims wait that kube-scheduler allocates; it is nobody's hurry."
    )
    explain_again: float = setting(1800.0, "Seconds after which an Event that still holds is repeated; they expire.")
    api_timeout: float = setting(10.0, "Seconds for one request to the API server.")
    metrics_address: str = setting("", "host:port for /metrics, /healthz and /readyz; empty: not served.")
    log_format: str = setting(
        "auto", "json, text, or auto: text on a terminal, json otherwise.", allowed=("auto", "json", "text")
    )
    log_level: str = setting("info", "debug, info, warning or error.", allowed=("debug", "info", "warning", "error"))

    @property
    def terms(self) -> Terms:
        """How the lease is held."""
        return Terms(self.lease_duration, self.renew_deadline, self.lease_retry)

    @property
    def patience(self) -> Patience:
        """How long things are remembered and waited for."""
        return Patience(self.refusal_memory, self.grace)


_SECONDS: Final = (
    "refusal_memory",
    "grace",
    "fence_delay",
    "explain_after",
    "explain_every",
    "explain_again",
    "api_timeout",
)


def check(settings: ControllerSettings) -> ControllerSettings:
    """Return the settings, or raise `InvalidInput` with the flag, its value and what is allowed."""
    for name in ("driver_name", "namespace", "lease_name"):
        shared.check_name(name.replace("_", "-"), getattr(settings, name))
    for name in _SECONDS:
        if not 0 < getattr(settings, name) < math.inf:
            raise InvalidInput(name.replace("_", "-"), getattr(settings, name), "a number of seconds above 0")
    shared.check_address(settings.metrics_address)
    leasing.check(settings.terms)
    return settings
