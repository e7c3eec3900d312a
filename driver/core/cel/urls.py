"""URLs as Go's net/url reads them (ParseRequestURI): absolute ones and absolute paths. Part of the library.

Sources: k8s.io/apiserver pkg/cel/library/urls.go; Go net/url of Go 1.26, with its strict rule on colons in hosts.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar, Final

from driver.core.cel.errors import EvaluationError
from driver.core.cel.values import Opaque, Value

_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_PORT: Final = re.compile(r"(?::[0-9]*)?")
_ESCAPE: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")
_ESCAPED: Final = re.compile(r"((?:%[0-9A-Fa-f]{2})+)")
_HOST: Final = re.compile("[A-Za-z0-9\\-_.~!$&'()*+,;=:\\[\\]<>\"%\x80-\U0010ffff]*")
_USER: Final = re.compile(r"[A-Za-z0-9\-._:~!$&'()*+,;=%@]*")
_PATH: Final = re.compile(r"[A-Za-z0-9\-_.~!$&'()*+,;=:@/\[\]%]*")
_SAFE: Final = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.~$&+,/:;=@")


@dataclass(frozen=True, slots=True)
class Url(Opaque):
    """A parsed URL; `path` is as it was written, without the fragment."""

    scheme: str
    opaque: str
    user: str
    host: str
    path: str
    query: str
    fragment: str
    kind: ClassVar[str] = "kubernetes.URL"

    @property
    def hostname(self) -> str:
        """The host without its port, and without the brackets of IPv6."""
        host, _ = _split_port(self.host)
        return host[1:-1] if host.startswith("[") and host.endswith("]") else host

    @property
    def port(self) -> str:
        """The port, or nothing."""
        return _split_port(self.host)[1]

    @property
    def escaped_path(self) -> str:
        """The path as written if that is valid, otherwise escaped."""
        if _PATH.fullmatch(self.path):
            return self.path
        octets = _unescape(self.path).encode(errors="surrogatepass")
        return "".join(chr(each) if chr(each) in _SAFE else f"%{each:02X}" for each in octets)


def _split_port(host: str) -> tuple[str, str]:
    before, colon, port = host.rpartition(":")
    return (before, port) if colon and _PORT.fullmatch(f":{port}") else (host, "")


def _fail(text: str, reason: str) -> EvaluationError:
    return EvaluationError(f"URL parse error during conversion from string: {text[:100]!r}: {reason}")


@lru_cache(maxsize=1024)
def parse(text: str) -> Url:
    """Read a URL. Raises `EvaluationError`."""
    check_request(text)
    rest, _, fragment = text.partition("#")
    scheme, rest, query = _cut(rest)
    if not rest.startswith("/"):
        return Url(scheme, rest, "", "", "", query, fragment)
    user, host, path = "", "", rest
    if (scheme or not rest.startswith("///")) and rest.startswith("//"):
        authority, slash, path = rest[2:].partition("/")
        path = slash + path
        user, host = _authority(text, authority)
    return Url(scheme, "", user, host, path, query, _unescape(fragment))


def check_request(text: str) -> None:
    """Raise `EvaluationError` if a text is no absolute URL and no absolute path; a fragment counts as path here."""
    if _CONTROL.search(text):
        raise _fail(text, "invalid control character in URL")
    if not text:
        raise _fail(text, "empty url")
    if text == "*":
        return
    if text.startswith(":"):
        raise _fail(text, "missing protocol scheme")
    scheme, rest, _ = _cut(text)
    if not rest.startswith("/"):
        if not scheme:
            raise _fail(text, "invalid URI for request")
        return
    if scheme and rest.startswith("//"):
        authority, _, path = rest[2:].partition("/")
        _authority(text, authority)
        rest = path
    if _ESCAPE.search(rest):
        raise _fail(text, "invalid URL escape")


def _cut(text: str) -> tuple[str, str, str]:
    """Return scheme, rest and query."""
    found = _SCHEME.match(text)
    scheme = found[1].lower() if found else ""
    rest, _, query = text[found.end() if found else 0 :].partition("?")
    return scheme, rest, query


def _authority(text: str, authority: str) -> tuple[str, str]:
    user, at, host = authority.rpartition("@")
    if at and (not _USER.fullmatch(user) or _ESCAPE.search(user)):
        raise _fail(text, "net/url: invalid userinfo")
    if host.startswith("["):
        inside, bracket, port = host[1:].rpartition("]")
        if not bracket:
            raise _fail(text, "missing ']' in host")
        _check_literal(text, inside)
    else:
        inside, colon, digits = host.rpartition(":")
        port = f":{digits}" if colon else ""
        if ":" in inside:
            raise _fail(text, "too many colons in host")
    if not _PORT.fullmatch(port):
        raise _fail(text, f"invalid port {port!r} after host")
    if not _HOST.fullmatch(host):
        raise _fail(text, "invalid character in host name")
    return user, _unescape_host(text, host)


def _check_literal(text: str, address: str) -> None:
    """Only IPv6 addresses stand in brackets; a zone follows `%25`."""
    try:
        ipaddress.IPv6Address(address.partition("%25")[0])
    except ValueError as error:
        raise _fail(text, "invalid IP-literal") from error


def _unescape_host(text: str, host: str) -> str:
    for escape in re.findall(r"%(.{0,2})", host):
        is_zone = escape == "25" and host.startswith("[")
        if not is_zone and not re.fullmatch("[89A-Fa-f][0-9A-Fa-f]", escape):
            raise _fail(text, f"invalid URL escape '%{escape}'")
    return _unescape(host)


def _unescape(text: str) -> str:
    if "%" not in text:
        return text
    return _ESCAPED.sub(lambda found: bytes.fromhex(found[1].replace("%", "")).decode(errors="surrogateescape"), text)


def _query(url: Url) -> Value:
    found: dict[Value, Value] = {}
    for part in url.query.split("&"):
        key, _, value = part.partition("=")
        if part and ";" not in part and not _ESCAPE.search(part):
            values = found.setdefault(_unescape(key.replace("+", " ")), [])
            assert isinstance(values, list)  # noqa: S101 - only lists are put in
            values.append(_unescape(value.replace("+", " ")))
    return found


def is_url(text: str) -> bool:
    """Say whether a text is a URL."""
    try:
        check_request(text)
    except EvaluationError:
        return False
    return True


FUNCTIONS: Final[Mapping[str, Callable[..., Value]]] = {
    "string_to_url": parse,
    "is_url_string": is_url,
    "url_get_scheme": lambda url: url.scheme,
    "url_get_host": lambda url: url.host,
    "url_get_hostname": lambda url: url.hostname,
    "url_get_port": lambda url: url.port,
    "url_get_escaped_path": lambda url: url.escaped_path,
    "url_get_query": _query,
}
"""Functions by the ids of their overloads."""
