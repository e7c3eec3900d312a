"""Certificate and key are read again when they change, however they change, and a broken pair changes nothing."""

from __future__ import annotations

import datetime as dt
import os
import shutil
import socket
import ssl
from pathlib import Path

import pytest

from driver.model.errors import InvalidInput
from driver.model.occurrences import Occurrence
from driver.model.reviewing import CertificateLoaded, CertificateRefused
from driver.webhook import certificates
from driver.webhook.app import Webhook
from driver.webhook.certificates import Certificates
from tests.fakes.http_server import TLS
from tests.fakes.waiting import wait_until
from tests.webhook.site import Caller, claim, make_pair, metric, settings_for, write_pair


class Folder:
    """A mounted Secret: `..data` leads to the folder of the day, and the files lead through `..data`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._number = 0
        for name in ("tls.crt", "tls.key"):
            (path / name).symlink_to(Path("..data", name))

    def fill(self, name: str = "server", *, common_name: str = "") -> None:
        """Swap in another pair as the kubelet does (AtomicWriter): in one rename."""
        self._number += 1
        day = self.path / f"..2026_{self._number}"
        day.mkdir()
        if common_name:
            make_pair(day, common_name)
        else:
            write_pair(day, name)
        (self.path / "..data_tmp").symlink_to(day.name)
        (self.path / "..data_tmp").rename(self.path / "..data")


def load(folder: Path, told: list[Occurrence]) -> Certificates:
    return Certificates(str(folder / "tls.crt"), str(folder / "tls.key"), 60.0, told.append)


def served(port: int) -> bytes:
    """Return the certificate that a new connection is shown."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with (
        socket.create_connection(("127.0.0.1", port), timeout=10) as plain,
        context.wrap_socket(plain) as connection,
    ):
        return connection.getpeercert(binary_form=True) or b""


def test_a_secret_that_is_swapped_is_served_to_new_connections_and_old_ones_live_on(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    folder.fill()
    with Webhook(settings_for(tmp_path)) as webhook:
        caller = Caller(webhook.port)
        caller.ask(claim())
        first, expiry = served(webhook.port), metric(webhook, "certificate_expiry_timestamp_seconds")
        folder.fill(common_name="second")
        wait_until(lambda: served(webhook.port) != first, "the new certificate")
        assert metric(webhook, "certificate_expiry_timestamp_seconds") < expiry
        assert metric(webhook, "certificate_loads_total") == 2
        caller.ask(claim())  # on the connection that began with the old one
        caller.close()
        other = Caller(webhook.port, ca=tmp_path / "tls.crt")
        other.ask(claim())
        other.close()


def test_a_pair_that_does_not_fit_is_told_once_and_the_old_one_stays(tmp_path: Path) -> None:
    told: list[Occurrence] = []
    write_pair(tmp_path)
    pair = load(tmp_path, told)
    context = pair.context
    shutil.copy(TLS / "client.key", tmp_path / "tls.key")
    assert (pair.renew(), pair.renew()) == (False, False)
    assert pair.context is context
    (loaded, refused) = told
    assert isinstance(loaded, CertificateLoaded)
    assert isinstance(refused, CertificateRefused)
    assert "KEY_VALUES_MISMATCH" in refused.error or "key values mismatch" in refused.error
    shutil.copy(TLS / "server.key", tmp_path / "tls.key")
    assert pair.renew()
    assert pair.context is context  # what was there before is there again


@pytest.mark.parametrize(
    "content", [b"", b"nonsense", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", None]
)
def test_a_certificate_that_cannot_be_read_is_told_and_not_used(tmp_path: Path, content: bytes | None) -> None:
    told: list[Occurrence] = []
    write_pair(tmp_path)
    pair = load(tmp_path, told)
    if content is None:
        (tmp_path / "tls.crt").unlink()
    else:
        (tmp_path / "tls.crt").write_bytes(content)
    assert not pair.renew()
    assert isinstance(told[-1], CertificateRefused)
    assert f"tls-cert-file: '{tmp_path / 'tls.crt'}' is not allowed" in told[-1].error
    write_pair(tmp_path)
    assert pair.renew()


def test_a_key_with_a_password_is_refused_and_nobody_is_asked(tmp_path: Path) -> None:
    write_pair(tmp_path)
    encrypted = tmp_path / "encrypted"
    os.system(f"openssl pkey -in {TLS}/server.key -aes256 -passout pass:x -out {encrypted} 2>/dev/null")
    encrypted.replace(tmp_path / "tls.key")
    with pytest.raises(InvalidInput, match="without a password"):
        load(tmp_path, [])


def test_files_that_are_copied_one_after_the_other_end_in_a_good_pair(tmp_path: Path) -> None:
    told: list[Occurrence] = []
    write_pair(tmp_path)
    pair = load(tmp_path, told)
    other = tmp_path / "other"
    other.mkdir()
    make_pair(other, "other")
    for name in ("tls.crt", "tls.key"):
        shutil.copy(other / name, tmp_path / name)
        pair.renew()
    assert [type(each) for each in told] == [CertificateLoaded, CertificateRefused, CertificateLoaded]


@pytest.mark.parametrize("missing", ["tls.crt", "tls.key"])
def test_without_a_pair_nothing_begins(tmp_path: Path, missing: str) -> None:
    write_pair(tmp_path)
    (tmp_path / missing).unlink()
    with pytest.raises(InvalidInput, match=r"a file that can be read \(No such file or directory\)"):
        Webhook(settings_for(tmp_path))


@pytest.mark.parametrize("days", [1, 400, 36500])
def test_the_end_of_a_certificate_is_read(tmp_path: Path, days: int) -> None:
    """Before 2050 dates have two digits for the year, afterwards four (RFC 5280, 4.1.2.5)."""
    make_pair(tmp_path, "x", days)
    expiry = certificates.read_expiry((tmp_path / "tls.crt").read_bytes())
    wanted = dt.datetime.now(dt.UTC) + dt.timedelta(days=days)
    assert abs(expiry - wanted) < dt.timedelta(minutes=5)


@pytest.mark.parametrize("text", [b"", b"-----BEGIN CERTIFICATE-----", (TLS / "server.key").read_bytes()])
def test_what_is_no_certificate_has_no_end(text: bytes) -> None:
    with pytest.raises(ValueError, match="no certificate"):
        certificates.read_expiry(text)
