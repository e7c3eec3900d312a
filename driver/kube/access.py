"""How to reach and trust one API server, as a value: from a pod's service account here, from a file in `kubeconfig`.

Called by the composition roots (`in_cluster`, `load`) and by `client` (`make_context`). Files named in an `Access` are
read when a connection pool is made, so that a renewed one picks up rotated files.
"""

from __future__ import annotations

import ssl
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from driver.model.errors import InvalidInput

SERVICE_ACCOUNT_ROOT: Final = "/var/run/secrets/kubernetes.io/serviceaccount"
"""Where the kubelet mounts a pod's token and the cluster's certificate authority."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """Where an API server is and who we are to it. Secrets are kept out of its text."""

    server: str
    """URL, `https://host:port`, with a path prefix if the server stands behind one."""
    ca_file: str = ""
    ca_data: str = field(default="", repr=False)
    """PEM text; neither file nor text: the system's certificates."""
    token: str = field(default="", repr=False)
    token_file: str = ""
    """Read again whenever it changes: bound tokens rotate about once an hour."""
    cert_file: str = ""
    key_file: str = ""
    cert_data: str = field(default="", repr=False)
    key_data: str = field(default="", repr=False)
    insecure: bool = False
    """Do not verify the server's certificate."""
    server_name: str = ""
    """Name to verify instead of the URL's host (kubeconfig tls-server-name)."""
    namespace: str = ""
    """Where a person works (namespace of the kubeconfig's context); empty: not said."""
    proxy: str = ""
    """URL of an HTTP proxy (kubeconfig proxy-url)."""
    renew: Callable[[], Access] | None = field(default=None, repr=False, compare=False)
    """Makes new credentials once the server no longer takes these."""


def load(kubeconfig: str, environment: Mapping[str, str]) -> Access:
    """Return the access that a kubeconfig describes, or that of the pod's service account if the path is empty.

    Raises `InvalidInput` with one sentence that says what is missing.
    """
    if not kubeconfig:
        return in_cluster(environment)
    import driver.kube.kubeconfig as files  # noqa: PLC0415 - YAML is not loaded in a pod, where memory is promised

    return files.load(kubeconfig)


def in_cluster(environment: Mapping[str, str], root: str = SERVICE_ACCOUNT_ROOT) -> Access:
    """Return the access of the service account of the pod that we run in. Raises `InvalidInput` outside a pod."""
    host, port = environment.get("KUBERNETES_SERVICE_HOST", ""), environment.get("KUBERNETES_SERVICE_PORT", "")
    if not host or not port:
        allowed = "set by the kubelet in every pod; outside a pod give --kubeconfig"
        raise InvalidInput("KUBERNETES_SERVICE_HOST and _PORT", f"{host}:{port}", allowed)
    token = Path(root, "token")
    if not token.is_file():
        allowed = "a service account token; check automountServiceAccountToken of the pod and its ServiceAccount"
        raise InvalidInput("service account", str(token), allowed)
    authority = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return Access(
        server=f"https://{authority}",
        ca_file=str(Path(root, "ca.crt")),
        token_file=str(token),
        renew=lambda: in_cluster(environment, root),
    )


def make_context(access: Access) -> ssl.SSLContext:
    """Return a context that verifies the server (unless `insecure`) and carries our certificate.

    Raises `InvalidInput` if a file is missing or is not PEM.
    """
    if access.insecure:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    else:
        context = _trust(access)
    if access.cert_data:
        with _written(access.cert_data) as cert, _written(access.key_data) as key:
            _load_certificate(context, cert.name, key.name)
    elif access.cert_file:
        _load_certificate(context, access.cert_file, access.key_file)
    return context


def _trust(access: Access) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=access.ca_file or None, cadata=access.ca_data or None)
    except (OSError, ValueError) as error:
        where = access.ca_file or "given as data"
        raise InvalidInput("certificate authority", where, f"readable PEM certificates ({error})") from error
    # From Python 3.13 on, the default asks for extensions that the certificate authorities of many clusters lack.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context


def _load_certificate(context: ssl.SSLContext, cert: str, key: str) -> None:
    try:
        context.load_cert_chain(cert, key or None)
    except OSError as error:
        raise InvalidInput("client certificate", cert, f"a readable PEM certificate with its key ({error})") from error


def _written(text: str) -> tempfile._TemporaryFileWrapper[str]:
    """Return a private file with the text, gone when closed: the ssl module loads certificates from files only."""
    file = tempfile.NamedTemporaryFile("w", suffix=".pem")  # noqa: SIM115 - the caller's `with` closes it
    file.write(text)
    file.flush()
    return file
