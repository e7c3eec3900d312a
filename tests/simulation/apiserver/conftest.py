"""A server without sockets, and somebody who asks it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from driver.simulation.apiserver import ApiServer
from tests.simulation.apiserver.asking import Asking


@pytest.fixture
def server() -> ApiServer:
    """A fresh server that nobody has started."""
    return ApiServer()


@pytest.fixture
def api(server: ApiServer) -> Asking:
    """The same, ready to be asked."""
    return Asking(server)


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A key and its certificate for 127.0.0.1 in one file, good for a day."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl, which makes the certificate, is not installed")
    path = tmp_path / "certificate.pem"
    kind = ["-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1"]
    names = ["-subj", "/CN=embedded", "-addext", "subjectAltName=IP:127.0.0.1"]
    command = ["openssl", "req", *kind, *names, "-keyout", str(path), "-out", str(tmp_path / "public.pem")]
    subprocess.run(command, check=True, capture_output=True, timeout=30)
    with path.open("a", encoding="ascii") as file:
        file.write((tmp_path / "public.pem").read_text(encoding="ascii"))
    return path
