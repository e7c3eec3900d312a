"""Everything that can be set, in one frozen class. Flags, environment variables and the docs table come from it.

Paths under /sys, /dev, /proc, /var and /etc occur as defaults here and nowhere else in the driver (inside a container,
a vendor's edits name the paths of its own device nodes).
"""

from __future__ import annotations

import dataclasses
import math
import re
from dataclasses import dataclass
from typing import Final, TypeVar

from driver.contract import Roots
from driver.core import partitioning, passthrough, shares
from driver.core.offering import Mode, Offer
from driver.core.ownership import Holdings
from driver.model import vocabulary
from driver.model.errors import InvalidInput
from driver.model.passthrough import View

ENV_PREFIX: Final = "ACCEL_DRA_"


_T = TypeVar("_T")


def setting(default: _T, text: str, *, flag: str = "", allowed: tuple[str, ...] = ()) -> _T:
    """Declare one setting with its explanation (what, unit, why this default)."""
    return dataclasses.field(default=default, metadata={"help": text, "flag": flag, "allowed": allowed})


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The plugin's settings. `help` of each field is what `accel-dra plugin --help` and docs/operations.md say."""

    node_name: str = setting("", "Name of this Node object; pool name and spec.nodeName of the slices. Required.")
    driver_name: str = setting(vocabulary.DEFAULT_DRIVER_NAME, "DRA driver name under which devices are published.")
    vendor: str = setting("nvidia", "Hardware to serve: nvidia or simulated (a folder of driver/vendors).")
    vendor_options: tuple[str, ...] = setting(
        (), "Settings of the vendor itself, as key=value; may be repeated.", flag="vendor-option"
    )
    kubeconfig: str = setting("", "Path of a kubeconfig; empty: the pod's service account.")
    pod_uid: str = setting(
        "",
        "UID of our pod; gives sockets a name of their own so that two versions overlap in a rolling update.",
    )

    driver_root: str = setting(
        "/", "Where the vendor's driver is installed, as the host sees it (such as /run/nvidia/driver)."
    )
    driver_root_mount: str = setting("", "Where this process sees the driver root; empty: at the same path.")
    dev_root: str = setting("/", "Folder whose dev/ holds the device nodes, as the host sees it.")
    dev_root_mount: str = setting("", "Where this process sees the dev root; empty: at the same path.")
    sys_root: str = setting("/sys", "The host's sysfs.")
    proc_root: str = setting("/proc", "The host's procfs.")
    cdi_root: str = setting("/var/run/cdi", "Folder for CDI specs; one that the container runtime reads.")
    kubelet_plugins_dir: str = setting("/var/lib/kubelet/plugins", "The kubelet's plugin data folder.")
    kubelet_registry_dir: str = setting(
        "/var/lib/kubelet/plugins_registry", "The folder in which the kubelet looks for registration sockets."
    )
    state_dir: str = setting("", "Folder for records of prepared claims; empty: <kubelet-plugins-dir>/<driver-name>.")

    daemon_cgroup: str = setting(
        "",
        "Folder of the host's control groups below which daemons of the vendor (MPS) get groups of their own, so that "
        "they outlive the plugin's container; empty: they are in ours and end with it.",
    )

    allocation_authority: str = setting(
        "scheduler",
        "Who allocates this node's devices, scheduler (kube-scheduler) or controller (accel-dra controller only: all "
        "devices carry the taint accel-dra.dev/controller-only). Never two at a time.",
        allowed=("scheduler", "controller"),
    )
    passthrough: bool = setting(
        False,
        "Also offer whole devices to virtual machines (type vfio), where the IOMMU allows it. A claim for one takes "
        "the device from its driver and gives it to vfio-pci until the claim is released.",
    )
    partitions: str = setting(
        "static",
        "What to do with devices that can be partitioned: off (whole devices only), static (what exists, nothing is "
        "made) or dynamic (partitions are made when they are allocated, and removed again).",
        allowed=tuple(mode.value for mode in Mode),
    )
    partition_profiles: tuple[str, ...] = setting(
        (),
        "Profiles that dynamic offers, such as 1g.10gb; with commas, or repeated. None named: all.",
        flag="partition-profiles",
    )
    shares: str = setting(
        "off",
        "Let several claims have a share of one device each, with limits (MPS) or without any (TimeSlicing). One "
        "strategy a node. A claim that does not say how much it wants gets the device alone.",
        allowed=("off", "MPS", "TimeSlicing"),
    )
    device_metadata: bool = setting(True, "Write device metadata files into containers (KEP-5304).")
    scan_interval: float = setting(
        2.0, "Seconds between looks for hot-plug and driver reloads (cheap: a few small files)."
    )
    rescan_interval: float = setting(
        300.0, "Seconds after which the hardware is asked again even if nothing seems to have changed."
    )
    api_timeout: float = setting(10.0, "Seconds for one request to the API server.")
    prepare_deadline: float = setting(
        40.0, "Seconds in which one prepare call may retry; the kubelet gives up after 45."
    )
    metrics_address: str = setting("", "host:port for /metrics, /healthz and /readyz; empty: not served.")
    log_format: str = setting(
        "auto", "json, text, or auto: text on a terminal, json otherwise.", allowed=("auto", "json", "text")
    )
    log_level: str = setting("info", "debug, info, warning or error.", allowed=("debug", "info", "warning", "error"))

    @property
    def data_dir(self) -> str:
        """The plugin's data folder, which holds the DRA socket."""
        return f"{self.kubelet_plugins_dir}/{self.driver_name}"

    @property
    def records_root(self) -> str:
        """The folder that holds claims/, quarantine/, device metadata and the lock."""
        return self.state_dir or self.data_dir

    @property
    def roots(self) -> Roots:
        """The places a vendor may look at."""
        return Roots(
            driver_root=self.driver_root,
            driver_root_mount=self.driver_root_mount or self.driver_root,
            dev_root=self.dev_root,
            dev_root_mount=self.dev_root_mount or self.dev_root,
            sys_root=self.sys_root,
            proc_root=self.proc_root,
            state_root=self.records_root,
        )


_PROFILE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+_-]*")
_SUBDOMAIN: Final = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_MAX_DRIVER_NAME: Final = 63
_KUBELET_CALL_SECONDS: Final = 45.0
_PATHS: Final = (
    "driver_root",
    "driver_root_mount",
    "dev_root",
    "dev_root_mount",
    "sys_root",
    "proc_root",
    "cdi_root",
    "kubelet_plugins_dir",
    "kubelet_registry_dir",
    "state_dir",
    "daemon_cgroup",
)


def flag(field: dataclasses.Field[object]) -> str:
    """Return the command-line name of a setting, without dashes."""
    return str(field.metadata["flag"] or field.name.replace("_", "-"))


def variable(field: dataclasses.Field[object]) -> str:
    """Return the environment variable of a setting."""
    return ENV_PREFIX + field.name.upper()


def check(settings: Settings) -> Settings:
    """Return the settings, or raise `InvalidInput` with the flag, its value and what is allowed."""
    check_name("driver-name", settings.driver_name)
    if len(settings.driver_name) > _MAX_DRIVER_NAME:
        raise InvalidInput("driver-name", settings.driver_name, f"at most {_MAX_DRIVER_NAME} characters")
    for field in dataclasses.fields(settings):
        allowed = field.metadata["allowed"]
        if allowed and getattr(settings, field.name) not in allowed:
            raise InvalidInput(flag(field), getattr(settings, field.name), ", ".join(allowed))
    if settings.node_name:
        check_name("node-name", settings.node_name)
    for name in _PATHS:
        value = getattr(settings, name)
        if value and not value.startswith("/"):
            raise InvalidInput(name.replace("_", "-"), value, "an absolute path")
    for name in ("scan_interval", "rescan_interval", "api_timeout", "prepare_deadline"):
        if not 0 < getattr(settings, name) < math.inf:
            raise InvalidInput(name.replace("_", "-"), getattr(settings, name), "a number of seconds above 0")
    if settings.prepare_deadline >= _KUBELET_CALL_SECONDS:
        raise InvalidInput("prepare-deadline", settings.prepare_deadline, "less than the kubelet's 45 seconds")
    check_address(settings.metrics_address)
    vendor_options(settings)
    list_profiles(settings)
    return settings


def vendor_options(settings: Settings) -> dict[str, str]:
    """Return the vendor's options as a mapping. Raises `InvalidInput` for one without `=`."""
    for option in settings.vendor_options:
        if not option.partition("=")[1] or option.startswith("="):
            raise InvalidInput("vendor-option", option, "key=value")
    return dict(option.split("=", 1) for option in settings.vendor_options)


def list_profiles(settings: Settings) -> frozenset[str]:
    """Return the profiles that are named; none: all. Raises `InvalidInput` for what cannot be the name of one."""
    parts = (part.strip() for text in settings.partition_profiles for part in text.split(","))
    names = frozenset(part for part in parts if part)
    for name in sorted(names):
        if not _PROFILE.fullmatch(name):
            raise InvalidInput("partition-profiles", name, "names of profiles, such as 1g.10gb,2g.20gb")
    return names


def make_offer(settings: Settings, held: Holdings | None = None, view: View | None = None) -> Offer:
    """Return how the hardware is offered; `held` tells what claims have made of it.

    `view`: what the kernel says of its devices, if they may be passed through.
    """
    known = held.steps if held else ()
    strategy = shares.read_strategy(settings.shares)
    return Offer(
        mode=Mode(settings.partitions),
        profiles=list_profiles(settings),
        owned=partitioning.owned(known),
        view=view,
        bound=passthrough.list_bound(known),
        shares=strategy,
        kept=shares.keep(held.devices if held else (), strategy),
    )


def check_name(field: str, value: str) -> None:
    """Raise `InvalidInput` for a value that cannot name an object or driver."""
    if not _SUBDOMAIN.fullmatch(value):
        raise InvalidInput(field, value, "a DNS subdomain: lower-case letters, digits, '-' and '.'")


def check_address(value: str, field: str = "metrics-address") -> None:
    """Raise `InvalidInput` for an address that nobody can listen on."""
    host, colon, port = value.rpartition(":")
    if value and not (colon and port.isdigit() and int(port) <= 65535 and not host.startswith("http")):
        raise InvalidInput(field, value, "host:port, or :port for all addresses")
