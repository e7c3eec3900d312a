"""kubeconfig files: the plain ones are read here, those that log in through a plugin by the official client.

Called by `access.load` only when a kubeconfig is given. Every fault is one sentence that names the file and the entry.
Format: k8s.io/client-go/tools/clientcmd/api/v1/types.go.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Final, TypeVar

import msgspec
import yaml

from driver.kube.access import Access
from driver.model.errors import InvalidInput, Unsupported

_EXTRA: Final = "accel-dra[kubeconfig]"


class _Part(msgspec.Struct, frozen=True, kw_only=True, rename="kebab"):
    """Base: absent and null are the same, as in YAML written by hand."""


class _Cluster(_Part, frozen=True, kw_only=True):
    server: str | None = None
    certificate_authority: str | None = None
    certificate_authority_data: str | None = None
    insecure_skip_tls_verify: bool | None = None
    tls_server_name: str | None = None
    proxy_url: str | None = None


class _User(_Part, frozen=True, kw_only=True):
    token: str | None = None
    token_file: str | None = msgspec.field(default=None, name="tokenFile")
    client_certificate: str | None = None
    client_certificate_data: str | None = None
    client_key: str | None = None
    client_key_data: str | None = None
    username: str | None = None
    impersonate: str | None = msgspec.field(default=None, name="as")
    exec: dict[str, object] | None = None
    auth_provider: dict[str, object] | None = None


class _Context(_Part, frozen=True, kw_only=True):
    cluster: str = ""
    user: str = ""
    namespace: str | None = None


class _NamedCluster(_Part, frozen=True, kw_only=True):
    name: str
    cluster: _Cluster | None = None


class _NamedUser(_Part, frozen=True, kw_only=True):
    name: str
    user: _User | None = None


class _NamedContext(_Part, frozen=True, kw_only=True):
    name: str
    context: _Context | None = None


class _Config(_Part, frozen=True, kw_only=True):
    current_context: str | None = None
    clusters: tuple[_NamedCluster, ...] | None = None
    users: tuple[_NamedUser, ...] | None = None
    contexts: tuple[_NamedContext, ...] | None = None


_configs: Final = msgspec.json.Decoder(_Config, strict=False)


_Entry = TypeVar("_Entry", _Context, _Cluster, _User)


class _Login:
    """What the official client's loader fills in; it stands in for its Configuration, which loads every API type."""

    def __init__(self) -> None:
        self.api_key: dict[str, str] = {}
        self.cert_file: str | None = None
        self.key_file: str | None = None


def load(path: str, context: str = "") -> Access:
    """Return the access of a context (empty: the file's current one).

    Raises `InvalidInput` for a missing or wrong file, `Unsupported` if a login plugin needs a package we do not have.
    """
    config = _read(path)
    chosen = context or config.current_context or ""
    link = _find(path, "context", chosen, {item.name: item.context or _Context() for item in config.contexts or ()})
    cluster = _find(
        path, "cluster", link.cluster, {item.name: item.cluster or _Cluster() for item in config.clusters or ()}
    )
    users = {item.name: item.user or _User() for item in config.users or ()}
    user = _find(path, "user", link.user, users) if link.user else _User()
    if not cluster.server:
        raise InvalidInput(f"kubeconfig {path}: server of cluster", link.cluster, "the API server's URL")
    folder = Path(path).resolve().parent
    access = Access(
        server=cluster.server,
        ca_file=_locate(folder, cluster.certificate_authority),
        ca_data=_decode(path, "certificate-authority-data", cluster.certificate_authority_data),
        insecure=bool(cluster.insecure_skip_tls_verify),
        server_name=cluster.tls_server_name or "",
        proxy=cluster.proxy_url or "",
        namespace=link.namespace or "",
        renew=lambda: load(path, context),
    )
    if user.exec or user.auth_provider:
        return _log_in(path, chosen, access)
    return _authenticate(path, user, access)


def _authenticate(path: str, user: _User, access: Access) -> Access:
    """Return the access with the credentials that stand in the file."""
    for field, value, allowed in (
        ("username", user.username, "a token or a client certificate; API servers take no passwords"),
        ("as", user.impersonate, "no impersonation: give the plugin an identity of its own"),
    ):
        if value:
            raise InvalidInput(f"kubeconfig {path}: user field {field}", value, allowed)
    folder = Path(path).resolve().parent
    cert_file, key_file = _locate(folder, user.client_certificate), _locate(folder, user.client_key)
    cert = _decode(path, "client-certificate-data", user.client_certificate_data)
    key = _decode(path, "client-key-data", user.client_key_data)
    if cert or key:
        cert, key = cert or _read_text(cert_file), key or _read_text(key_file)
    return dataclasses.replace(
        access,
        token="" if user.token_file else user.token or "",
        token_file=_locate(folder, user.token_file),
        cert_file=cert_file,
        key_file=key_file,
        cert_data=cert,
        key_data=key,
    )


def _log_in(path: str, context: str, access: Access) -> Access:
    """Return the access with what the login plugin of the user hands out."""
    try:
        from kubernetes.config import ConfigException, load_kube_config  # noqa: PLC0415 - 30 MiB, for plugins only
    except ImportError as error:
        raise Unsupported(
            f"kubeconfig {path}: its user logs in through a plugin, which needs the Python package kubernetes: "
            f"pip install '{_EXTRA}', or use a kubeconfig with a token or a client certificate"
        ) from error
    login = _Login()
    try:
        load_kube_config(config_file=path, context=context, client_configuration=login)  # type: ignore[no-untyped-call] # theirs
    except (ConfigException, OSError, ValueError, KeyError) as error:
        raise InvalidInput(f"kubeconfig {path}: login plugin", str(error), "one that hands out credentials") from error
    token = next(iter(login.api_key.values()), "").removeprefix("Bearer ")
    if not token and not login.cert_file:
        allowed = "one that hands out a token or a certificate; run it by hand to see what it says"
        raise InvalidInput(f"kubeconfig {path}: login plugin of context", context, allowed)
    return dataclasses.replace(access, token=token, cert_file=login.cert_file or "", key_file=login.key_file or "")


def _read(path: str) -> _Config:
    text = _read_text(path)
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InvalidInput("kubeconfig", path, f"YAML ({' '.join(str(error).split())})") from error
    try:
        return _configs.decode(msgspec.json.encode(content if content is not None else {}))
    except msgspec.ValidationError as error:
        raise InvalidInput("kubeconfig", path, f"a file of kind Config ({error})") from error


def _read_text(path: str) -> str:
    try:
        return Path(path).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput("kubeconfig", path, f"a readable file ({error})") from error


def _find(path: str, kind: str, name: str, known: Mapping[str, _Entry]) -> _Entry:
    if name in known:
        return known[name]
    choice = ", ".join(known) or "none is in the file"
    raise InvalidInput(f"kubeconfig {path}: {kind}", name, f"one that the file defines ({choice})")


def _locate(folder: Path, file: str | None) -> str:
    """Return the path of a file that is named relative to the kubeconfig."""
    return str(folder / file) if file else ""


def _decode(path: str, field: str, data: str | None) -> str:
    if not data:
        return ""
    try:
        return base64.b64decode(data, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError) as error:
        raise InvalidInput(f"kubeconfig {path}: {field}", data[:16], f"PEM text in base64 ({error})") from error
