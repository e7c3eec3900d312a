"""A webhook that listens on the loopback interface, and a client that asks it as an API server does."""

from __future__ import annotations

import http.client
import json
import shutil
import ssl
import subprocess
from pathlib import Path
from typing import Any, Final

from driver.webhook.app import Webhook
from driver.webhook.settings import WebhookSettings
from tests.fakes.http_server import TLS

PATH: Final = "/review"
DRIVER: Final = "gpu.accel-dra.dev"
VERSION: Final = "config.accel-dra.dev/v1alpha1"


def write_pair(folder: Path, name: str = "server") -> None:
    """Put certificate and key of the test data into a folder, as a Secret has them."""
    shutil.copy(TLS / f"{name}.pem", folder / "tls.crt")
    shutil.copy(TLS / f"{name}.key", folder / "tls.key")


def make_pair(folder: Path, common_name: str, days: int = 30) -> None:
    """Make a new certificate and key as docs/webhook.md says."""
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    command += ["-keyout", str(folder / "tls.key"), "-out", str(folder / "tls.crt"), "-days", str(days)]
    command += ["-subj", f"/CN={common_name}", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run(command, check=True, capture_output=True, timeout=30)


def settings_for(folder: Path, **more: Any) -> WebhookSettings:
    """Return settings that serve the pair of a folder and know nothing of a cluster."""
    values: dict[str, Any] = {
        "address": "127.0.0.1:0",
        "metrics_address": "127.0.0.1:0",
        "tls_cert_file": str(folder / "tls.crt"),
        "tls_key_file": str(folder / "tls.key"),
        "certificate_interval": 0.05,
        "shutdown_delay": 0.0,
        "watch": False,
    }
    return WebhookSettings(**{**values, **more})


def claim(*config: dict[str, Any], class_name: str = DRIVER, **meta: Any) -> dict[str, Any]:
    """Return a ResourceClaim with one request and this configuration."""
    requests = [{"name": "gpu", "exactly": {"deviceClassName": class_name}}]
    return {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceClaim",
        "metadata": {"name": "c", "namespace": "team", **meta},
        "spec": {"devices": {"requests": requests, "config": list(config)}},
    }


def config(strategy: str = "MPS", **content: Any) -> dict[str, Any]:
    """Return an entry of spec.devices.config."""
    head = {"apiVersion": VERSION, "kind": "GpuConfig", "sharing": {"strategy": strategy}}
    return {"opaque": {"driver": DRIVER, "parameters": {**head, **content}}}


def review(document: dict[str, Any], operation: str = "CREATE", old: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return the AdmissionReview for an object."""
    group, _, version = str(document.get("apiVersion", "resource.k8s.io/v1")).rpartition("/")
    written = document.get("metadata")
    meta = written if isinstance(written, dict) else {}
    request = {
        "uid": "705ab4f5-6393-11e8-b7cc-42010a800002",
        "kind": {"group": group, "version": version, "kind": document.get("kind")},
        "name": meta.get("name", ""),
        "namespace": meta.get("namespace", ""),
        "operation": operation,
        "object": document,
        "oldObject": old,
        "dryRun": False,
    }
    return {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}


class Caller:
    """Asks over TLS, as the API server does. A kept connection."""

    def __init__(self, port: int, ca: Path | None = None) -> None:
        self._context = ssl.create_default_context(cafile=str(ca or TLS / "ca.pem"))
        self._context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        self.connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=20, context=self._context)

    def send(self, body: bytes, path: str = PATH, method: str = "POST", **headers: str) -> tuple[int, bytes]:
        """Return status and body of the answer."""
        self.connection.request(method, path, body, {"Content-Type": "application/json", **headers})
        answer = self.connection.getresponse()
        return answer.status, answer.read()

    def ask(self, document: dict[str, Any], operation: str = "CREATE", old: dict[str, Any] | None = None) -> Any:
        """Return the response part of the answer."""
        status, body = self.send(json.dumps(review(document, operation, old)).encode())
        assert status == 200, body
        answer = json.loads(body)
        assert (answer["apiVersion"], answer["kind"]) == ("admission.k8s.io/v1", "AdmissionReview")
        assert answer["response"]["uid"] == "705ab4f5-6393-11e8-b7cc-42010a800002"
        return answer["response"]

    def close(self) -> None:
        self.connection.close()


def read_page(webhook: Webhook, page: str) -> tuple[int, str]:
    """Return a page of the metrics port."""
    connection = http.client.HTTPConnection("127.0.0.1", webhook.metrics_port, timeout=5)
    try:
        connection.request("GET", page)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def metric(webhook: Webhook, name: str) -> float:
    """Return the sum of all series of a metric of the webhook."""
    lines = read_page(webhook, "/metrics")[1].splitlines()
    prefix = f"accel_dra_webhook_{name}"
    found = [line for line in lines if line.startswith((f"{prefix} ", f"{prefix}{{"))]
    return sum(float(line.rsplit(" ", 1)[1]) for line in found)
