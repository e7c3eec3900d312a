"""Benchmarks of reviews: one object by itself and over HTTPS, and what a large cluster adds."""

from __future__ import annotations

import http.client
import json
import ssl
from pathlib import Path
from typing import Any, Final

from driver.core.reviewing import admission, reviews, selecting
from driver.core.reviewing.selecting import Stage
from driver.webhook.app import Webhook
from driver.webhook.serving import PATH
from driver.webhook.settings import WebhookSettings
from hack.bench import clusters
from hack.bench.figures import Report, time_calls

DRIVER: Final = "gpu.accel-dra.dev"
TLS: Final = Path(__file__).resolve().parents[2] / "tests" / "data" / "tls"
SELECTOR: Final = (
    'device.attributes["accel-dra.dev"].?model.orValue("") == "H{}" && '
    'device.capacity["accel-dra.dev"].memory.compareTo(quantity("40Gi")) >= 0'
)


def measure(report: Report, count: int) -> None:
    """Measure reviews of claims and classes."""
    known = clusters.load("whole-gpu-1000")
    stage = selecting.open_stage(DRIVER)
    for name, strategy, selectors in (("good", "MPS", 0), ("bad", "Mps", 0), ("good, ten selectors", "MPS", 10)):
        body = json.dumps(make_review(strategy, selectors)).encode()
        report.add(f"review a claim, {name}", "ms", time_calls(lambda body=body: _answer(body, stage), count))  # type: ignore[misc]
    report.add("review, make ready for 1000 nodes", "ms", time_calls(lambda: _learn(known), min(count, 10)))
    large = _learn(known)
    body = json.dumps(make_class('device.driver == "none.example.com"')).encode()
    report.add("review a class that matches none of 1000 nodes", "ms", time_calls(lambda: _answer(body, large), 3))
    _measure_https(report, count)


def make_review(strategy: str, selectors: int) -> dict[str, Any]:
    """Return the AdmissionReview for a claim with this strategy and so many selectors."""
    expressions = [{"cel": {"expression": SELECTOR.format(number)}} for number in range(selectors)]
    parameters = {
        "apiVersion": "config.accel-dra.dev/v1alpha1",
        "kind": "GpuConfig",
        "sharing": {"strategy": strategy, "mps": {"activeThreadPercentage": 50, "pinnedMemoryLimit": "8Gi"}},
    }
    requests = [{"name": "gpu", "exactly": {"deviceClassName": DRIVER, "selectors": expressions}}]
    config = [{"opaque": {"driver": DRIVER, "parameters": parameters}}]
    return _frame("ResourceClaim", {"devices": {"requests": requests, "config": config}})


def make_class(expression: str) -> dict[str, Any]:
    """Return the AdmissionReview for a class with this selector."""
    return _frame("DeviceClass", {"selectors": [{"cel": {"expression": expression}}]})


def _frame(kind: str, spec: dict[str, Any]) -> dict[str, Any]:
    version = {"group": "resource.k8s.io", "version": "v1", "kind": kind}
    document = {"apiVersion": "resource.k8s.io/v1", "kind": kind, "metadata": {"name": "x"}, "spec": spec}
    request = {"uid": "u", "kind": version, "name": "x", "operation": "CREATE", "object": document}
    return {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}


def _answer(body: bytes, stage: Stage) -> None:
    admission.answer(body, lambda subject: reviews.review(subject, DRIVER, stage))


def _learn(cluster: clusters.Cluster) -> Stage:
    return selecting.open_stage(DRIVER, cluster.classes, cluster.slices, has_all_classes=True)


def _measure_https(report: Report, count: int) -> None:
    """Ask the real webhook over one connection, as the API server does."""
    settings = WebhookSettings(
        address="127.0.0.1:0",
        tls_cert_file=str(TLS / "server.pem"),
        tls_key_file=str(TLS / "server.key"),
        watch=False,
        shutdown_delay=0.0,
    )
    trusting = ssl.create_default_context(cafile=str(TLS / "ca.pem"))
    trusting.verify_flags &= ~ssl.VERIFY_X509_STRICT
    body = json.dumps(make_review("MPS", 0)).encode()
    with Webhook(settings) as webhook:
        connection = http.client.HTTPSConnection("127.0.0.1", webhook.port, timeout=20, context=trusting)

        def ask() -> None:
            connection.request("POST", PATH, body)
            connection.getresponse().read()

        report.add("webhook: a claim over HTTPS", "ms", time_calls(ask, count))
        connection.close()
