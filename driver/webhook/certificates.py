"""The server's certificate and key, read from mounted files and read again when they change.

Made by `app`. The kubelet swaps the files of a Secret through a link, cert-manager renews them, a person copies one
after the other: so what counts is what the files hold. A pair that does not fit or cannot be read is told and not
used; the last good one stays.
"""

from __future__ import annotations

import datetime as dt
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from driver.model.errors import InvalidInput
from driver.model.occurrences import Emit
from driver.model.reviewing import CertificateLoaded, CertificateRefused

_VERSION: Final = 0xA0
_UTC_TIME: Final = 0x17
_GENERALIZED_TIME: Final = 0x18
_LONG: Final = 0x80
_FORMATS: Final = {_UTC_TIME: "%y%m%d%H%M%SZ", _GENERALIZED_TIME: "%Y%m%d%H%M%SZ"}


class Certificates:
    """Keeps the TLS context of the newest good pair."""

    def __init__(self, cert_file: str, key_file: str, interval: float, emit: Emit) -> None:
        """Read the pair. Raises `InvalidInput` if there is none that works: without one nothing can be served."""
        self._cert_file = cert_file
        self._key_file = key_file
        self._interval = interval
        self._emit = emit
        self._refused = ""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="certificates", daemon=True)
        self._content = self._read_files()
        self._context = self._load()

    @property
    def context(self) -> ssl.SSLContext:
        """The context for a connection that begins now."""
        return self._context

    @property
    def alive(self) -> bool:
        """True while the files are looked at."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Begin to look whether the files change."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread. Safe without `start`."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def renew(self) -> bool:
        """Read the files again if they have changed; False if what they hold now cannot be used."""
        try:
            content = self._read_files()
            if content == self._content:
                self._refused = ""
                return True
            self._context = self._load()
        except InvalidInput as error:
            if str(error) != self._refused:
                self._refused = str(error)
                self._emit(CertificateRefused(str(error)))
            return False
        self._content, self._refused = content, ""
        return True

    def _run(self) -> None:
        while not self._stop.wait(self._interval):
            self.renew()

    def _read_files(self) -> tuple[bytes, bytes]:
        return (_read("tls-cert-file", self._cert_file), _read("tls-key-file", self._key_file))

    def _load(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            context.load_cert_chain(self._cert_file, self._key_file, password=_refuse_password)
            expires = read_expiry(_read("tls-cert-file", self._cert_file))
        except (OSError, ValueError) as error:
            allowed = f"a certificate and its key in {self._key_file}, both PEM, without a password ({error})"
            raise InvalidInput("tls-cert-file", self._cert_file, allowed) from error
        self._emit(CertificateLoaded(self._cert_file, expires.isoformat(), expires.timestamp()))
        return context


def read_expiry(pem: bytes) -> dt.datetime:
    """Return when the first certificate of a PEM text ends. Raises ValueError if there is none.

    X.509 (RFC 5280, 4.1): Certificate → tbsCertificate → version?, serial, algorithm, issuer, validity → notAfter.
    """
    text = pem.decode("ascii", "replace")
    begin, end = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
    if begin not in text or end not in text:
        raise ValueError("no certificate in PEM")
    der = ssl.PEM_cert_to_DER_cert(f"{begin}{text.partition(begin)[2].partition(end)[0]}{end}")
    try:
        (_, certificate), *_ = _walk(der)
        (_, body), *_ = _walk(certificate)
        parts = [part for tag, part in _walk(body) if tag != _VERSION]
        (_, _), (tag, end_of_life) = _walk(parts[3])
        return dt.datetime.strptime(end_of_life.decode("ascii"), _FORMATS[tag]).replace(tzinfo=dt.UTC)
    except (IndexError, KeyError, ValueError) as error:
        raise ValueError(f"no certificate of X.509 ({error})") from error


def _walk(der: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield tag and content of each value (X.690 DER, definite lengths)."""
    position = 0
    while position < len(der):
        tag, length = der[position], der[position + 1]
        position += 2
        if length & _LONG:
            size = length & ~_LONG
            length = int.from_bytes(der[position : position + size], "big")
            position += size
        yield tag, der[position : position + length]
        position += length


def _read(name: str, path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise InvalidInput(name, path, f"a file that can be read ({error.strerror})") from error


def _refuse_password() -> str:
    """OpenSSL would ask for a password at the terminal."""
    raise ValueError("the key has a password")
