"""The webhook's settings, in one frozen class. Flags, environment variables and the docs table come from it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from driver import settings as shared
from driver.model import vocabulary
from driver.model.errors import InvalidInput
from driver.settings import setting


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookSettings:
    """`help` of each field is what `accel-dra webhook --help` and docs/webhook.md say."""

    driver_name: str = setting(vocabulary.DEFAULT_DRIVER_NAME, "Driver whose configuration is checked.")
    address: str = setting(":9443", "host:port for the API server's requests, over TLS.")
    tls_cert_file: str = setting(
        "", "Certificate of the server and its chain, PEM; read again when it changes. Required."
    )
    tls_key_file: str = setting("", "Key of the certificate, PEM; read again when it changes. Required.")
    certificate_interval: float = setting(10.0, "Seconds between looks whether certificate or key have changed.")
    watch: bool = setting(
        True, "Follow slices and classes of the cluster, for more warnings. Faults are found without them."
    )
    kubeconfig: str = setting("", "Path of a kubeconfig; empty: the pod's service account.")
    review_time: float = setting(
        1.0,
        "Seconds after which no further warnings are looked for; faults are always found. Less than timeoutSeconds.",
    )
    shutdown_delay: float = setting(
        5.0, "Seconds for which requests are still answered after SIGTERM, until nobody sends any more."
    )
    api_timeout: float = setting(10.0, "Seconds for one request to the API server.")
    metrics_address: str = setting("", "host:port for /metrics, /healthz and /readyz; empty: not served.")
    log_format: str = setting(
        "auto", "json, text, or auto: text on a terminal, json otherwise.", allowed=("auto", "json", "text")
    )
    log_level: str = setting("info", "debug, info, warning or error.", allowed=("debug", "info", "warning", "error"))


def check(settings: WebhookSettings) -> WebhookSettings:
    """Return the settings, or raise `InvalidInput` with the flag, its value and what is allowed."""
    shared.check_name("driver-name", settings.driver_name)
    for name in ("tls_cert_file", "tls_key_file"):
        if not getattr(settings, name):
            raise InvalidInput(name.replace("_", "-"), "", "the path of a PEM file")
    for name in ("certificate_interval", "review_time", "api_timeout"):
        if not 0 < getattr(settings, name) < math.inf:
            raise InvalidInput(name.replace("_", "-"), getattr(settings, name), "a number of seconds above 0")
    if not 0 <= settings.shutdown_delay < math.inf:
        raise InvalidInput("shutdown-delay", settings.shutdown_delay, "a number of seconds, at least 0")
    if not settings.address:
        raise InvalidInput("address", "", "host:port")
    shared.check_address(settings.address, "address")
    shared.check_address(settings.metrics_address)
    return settings
