"""The node plugin, composed: THE PAGE TO READ FIRST. All parts meet here and nowhere else.

    vendor ─ snapshot ─► Scanner ─ inventory ─► Publisher ─ slices ─► API server
       └──── health ───► Watchdog ──┘   └─────► Preparer ◄─ claims ── API server
                             │                    └─ DRA service ◄─── kubelet
                             └────── Reporter ── health stream ─────► kubelet

`accel-dra plugin` runs it until it is told to end. Start order: look at the hardware and publish at once; meanwhile
repair what the last run left; register with the kubelet last, so that every call finds a consistent node. Stop order:
withdraw the registration, finish calls, stop. Slices and daemons of the vendor are left for the next instance.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import os
import threading
import time
import uuid
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from driver import settings as settings_module
from driver import vendors
from driver.contract import Health, Vendor
from driver.core import admitting, shares
from driver.core import inventory as inventories
from driver.core.fencing import Authority
from driver.core.offering import Mode
from driver.core.ownership import Holdings
from driver.core.settling import Instance
from driver.daemons.supervisor import Supervisor
from driver.kube import access, claims, slices
from driver.kube.client import Client
from driver.kube.events import EventWriter
from driver.kubelet import sockets
from driver.kubelet.dra import DraService
from driver.kubelet.health import HealthService
from driver.kubelet.servers import KubeletServers
from driver.lifecycle import Service
from driver.model.claims import ResourceClaim
from driver.model.devices import Inventory
from driver.model.errors import DriverError, Unavailable
from driver.model.occurrences import ClaimUnprepared, HardwareChanged, Occurrence, Registered, RegistryAwaited
from driver.model.prepared import Record
from driver.node.modes import Modes
from driver.node.passing import Passing
from driver.node.preparer import Outside, Preparer, open_preparer
from driver.node.publisher import Publisher
from driver.node.publishing import Place, Stock, take_stock
from driver.node.reporting import Reporter
from driver.node.scanner import Scanner
from driver.node.surveying import Survey, Surveyor
from driver.node.telling import Teller
from driver.node.watchdog import Watchdog
from driver.passthrough.binding import Passthrough
from driver.settings import Settings
from driver.state import files
from driver.telemetry import logs
from driver.telemetry.endpoint import Endpoint
from driver.telemetry.metrics import Metrics

_FIRST_LOOK_SECONDS: Final = 10.0
"""How long recovery waits for the hardware: claims from before a reboot are rebuilt from what is there now."""
_GLANCE_SECONDS: Final = 0.1
_LABEL_SECONDS: Final = 2.0
"""How long the Node's label is waited for before anything is published; then again, as long as it takes."""
_REGISTRY_SECONDS: Final = 0.5
"""Between two looks for the kubelet's registration folder."""
_GRACE_SECONDS: Final = 5.0
"""For calls of the kubelet that are under way when the plugin ends; it repeats those that are cut off."""


class Plugin(Service):
    """The running plugin. A context manager: entering starts it, leaving stops it."""

    def __init__(self, settings: Settings, stopping: threading.Event | None = None) -> None:
        """Compose the parts; nothing runs yet. Once `stopping` is set, also by others, waits end and starting too.

        Raises `InvalidInput` for settings that cannot work and `StorageFailed` for folders that cannot be used.
        """
        self._settings = settings
        self._stopping = stopping or threading.Event()
        self._accepted = threading.Event()
        self._restored = False
        self._stock: Stock | None = None
        self._metrics = Metrics()
        root = Path(settings.records_root) / "daemons"
        self._daemons = Supervisor(root, self._tell, cgroup=settings.daemon_cgroup)
        vendor = self._load_vendor()
        self._client = Client(access.load(settings.kubeconfig, os.environ), timeout=settings.api_timeout)
        self._events = EventWriter(self._client, settings.driver_name, settings.node_name, emit=logs.log_occurrence)
        self._teller = Teller(settings.node_name, self._metrics, self._events)
        self._modes = Modes(
            self._client, settings.node_name, Mode(settings.partitions), self._rebuild, self._teller.tell
        )
        self._devices = Passthrough(settings.sys_root, settings.proc_root)
        self._surveyor = Surveyor(vendor, self._devices, self._read_steps, offers_passthrough=settings.passthrough)
        self._scanner = self._make_scanner()
        self._watchdog = Watchdog(vendor, self._heed, self._teller.tell) if isinstance(vendor, Health) else None
        self._publisher = self._make_publisher()
        self._preparer = self._make_preparer(vendor)
        self._health_stream = self._make_health_stream()
        self._servers = self._make_servers()
        self._endpoint = self._make_endpoint()

    @property
    def ready(self) -> bool:
        """True once the kubelet has accepted us and the API server holds our slices."""
        return self._accepted.is_set() and self._publisher.published.is_set()

    @property
    def alive(self) -> bool:
        """True while the loops that never end are running; only a defect ends them."""
        return self._scanner.alive and self._publisher.alive

    def start(self) -> None:
        """Start the parts in order. Raises `DriverError` if the node cannot be served."""
        if self._endpoint:
            self._endpoint.start()
        self._modes.start()
        self._scanner.start()
        self._publisher.start()
        self._events.start()
        if self._watchdog:
            self._watchdog.start()
        self._wait_for_hardware()
        with contextlib.suppress(Unavailable):  # nothing can be allocated before it is known
            self._modes.wait(_LABEL_SECONDS)
        if self._stopping.is_set():
            return
        self._preparer.recover()
        self._preparer.start_collecting()
        if self._wait_for_registry():
            self._servers.start()

    def _wait_for_hardware(self) -> None:
        end = time.monotonic() + _FIRST_LOOK_SECONDS
        while not self._scanner.scanned.wait(_GLANCE_SECONDS):
            if self._stopping.is_set() or time.monotonic() > end:
                return

    def _wait_for_registry(self) -> bool:
        """Wait for the folder that the kubelet makes when it starts; False if the plugin is to end instead.

        Made here, a folder with a mistyped name would be one that no kubelet ever looks at.
        """
        if not self._has_registry():
            self._teller.tell(RegistryAwaited(self._settings.kubelet_registry_dir))
        while not self._has_registry():
            if self._stopping.wait(_REGISTRY_SECONDS):
                break
        return not self._stopping.is_set()

    def _has_registry(self) -> bool:
        return Path(self._settings.kubelet_registry_dir).is_dir()

    def stop(self) -> None:
        """Stop the parts in order. Safe after a start that failed half-way."""
        self._stopping.set()
        self._servers.stop(_GRACE_SECONDS)
        self._preparer.close()
        self._daemons.close()
        if self._watchdog:
            self._watchdog.stop()
        self._scanner.stop()
        self._modes.stop()
        self._publisher.stop()
        self._events.stop()
        if self._endpoint:
            self._endpoint.stop()
        self._client.close()

    def _tell(self, occurrence: Occurrence) -> None:
        """For parts that are made before the teller; they have nothing to tell until they are used."""
        self._teller.tell(occurrence)

    def _load_vendor(self) -> Vendor:
        settings = self._settings
        options = settings_module.vendor_options(settings)
        return vendors.load(settings.vendor, settings.roots, options, self._daemons)

    def _make_scanner(self) -> Scanner[Survey]:
        return Scanner(
            self._surveyor,
            self._build,
            self._teller.tell,
            self._wake,
            scan_interval=self._settings.scan_interval,
            rescan_interval=self._settings.rescan_interval,
        )

    def _wake(self) -> None:
        """Take a change of the inventory on. That a partition was made changes nothing that is published."""
        found = self._scanner.inventory
        stock = take_stock(found) if found else None
        if stock is None or stock != self._stock:
            self._stock = stock
            self._publisher.wake()
        self._health_stream.notify()

    def _rebuild(self) -> None:
        self._scanner.rebuild()

    def _read_steps(self) -> Holdings:
        return self._preparer.read_steps()

    def _heed(self) -> None:
        """Take a change of health into the inventory; to the kubelet also one that changes no taint."""
        self._scanner.rebuild()
        self._health_stream.notify()

    def _build(self, survey: Survey) -> Inventory:
        health = self._watchdog.look(survey.snapshot) if self._watchdog else None
        held = Holdings(survey.ownership.steps, devices=survey.ownership.devices)
        offer = settings_module.make_offer(self._settings, held, survey.view)
        offer = dataclasses.replace(offer, mode=self._modes.mode, owned=survey.ownership.owned)
        return inventories.build(survey.snapshot, health, offer)

    def _make_publisher(self) -> Publisher:
        settings = self._settings
        instance = Instance(dt.datetime.now(dt.UTC), settings.pod_uid or uuid.uuid4().hex)
        authority = Authority(settings.allocation_authority)
        place = Place(settings.driver_name, settings.node_name, instance, authority)
        return Publisher(self._client, place, self._offer, self._teller.tell)

    def _offer(self) -> Inventory | None:
        """Return what to publish. Faults that an earlier instance published are taken over before the first time.

        Raises `Unavailable` until it is known what the Node's label says.
        """
        self._modes.wait(_LABEL_SECONDS)
        found = self._scanner.inventory
        if self._watchdog and found is not None and not self._restored:
            stored = slices.fetch(self._client, self._settings.driver_name, self._settings.node_name)
            self._watchdog.restore((device for each in stored for device in each.spec.devices), found.snapshot)
            self._restored = True
        return self._scanner.inventory

    def _make_preparer(self, vendor: Vendor) -> Preparer:
        # A CDI folder that cannot be made is told now and not when the first claim is prepared.
        files.make_folder(files.Disk(), Path(self._settings.cdi_root), 0o755)
        outside = Outside(
            fetch=self._fetch,
            inventory=lambda: self._scanner.inventory,
            emit=self._tell_change,
            on_fault=_log_fault,
            clock=time.monotonic,
            wait=self._stopping.wait,
        )
        passing = Passing(self._devices, vendor, lambda: self._scanner.inventory)
        return open_preparer(self._settings, vendor, outside, neutral=(passing,))

    def _tell_change(self, occurrence: Occurrence) -> None:
        """Tell what happens to claims; hardware that was changed for one is looked at again soon.

        So is a device that is shared otherwise than set, because its last share may have been released.
        """
        self._teller.tell(occurrence)
        if isinstance(occurrence, HardwareChanged) or (
            isinstance(occurrence, ClaimUnprepared) and self._shares_otherwise()
        ):
            self._surveyor.expect_news()

    def _shares_otherwise(self) -> bool:
        found = self._scanner.inventory
        return found is not None and shares.is_kept(
            (entry.device for entry in found.entries), shares.read_strategy(self._settings.shares)
        )

    def _fetch(self, namespace: str, name: str, timeout: float) -> ResourceClaim:
        return claims.fetch(self._client, namespace, name, timeout=timeout)

    def _make_servers(self) -> KubeletServers:
        settings = self._settings
        paths = sockets.name(
            settings.driver_name, settings.kubelet_plugins_dir, settings.kubelet_registry_dir, settings.pod_uid
        )
        prepare = self._teller.tell_answers(self._preparer.prepare)
        unprepare = self._teller.tell_releases(self._preparer.unprepare)
        service = DraService(prepare, unprepare, _log_fault)
        return KubeletServers(settings.driver_name, paths, service, self._health_stream, self._hear_status)

    def _make_health_stream(self) -> HealthService:
        reporter = Reporter(
            lambda: self._scanner.inventory,
            lambda: self._watchdog.health if self._watchdog else None,
            self._preparer.list_devices,
        )
        return HealthService(self._settings.node_name, reporter.report, _log_fault)

    def _hear_status(self, status: Registered) -> None:
        """The kubelet repeats a refused registration by itself, so a refusal is told and the plugin goes on."""
        if status.accepted:
            self._accepted.set()
        else:
            self._accepted.clear()
        self._teller.tell(status)

    def _make_endpoint(self) -> Endpoint | None:
        if not self._settings.metrics_address:
            return None
        return Endpoint(
            self._settings.metrics_address,
            {
                "/metrics": lambda: (200, self._expose()),
                "/healthz": lambda: (200, b"ok\n") if self.alive else (500, b"a worker has ended\n"),
                "/readyz": lambda: (200, b"ok\n") if self.ready else (503, self._explain_waiting()),
            },
        )

    def _expose(self) -> bytes:
        with contextlib.suppress(DriverError):  # whoever prepares claims says what is wrong with the records
            records = self._preparer.list_records()
            self._metrics.show_claims(records)
            self._metrics.show_states(self._survey(records))
        return self._metrics.text()

    def _survey(self, records: Iterable[Record]) -> dict[str, str]:
        """Return the state of each accelerator; none while the hardware is away."""
        found = self._scanner.inventory
        if found is None:
            return {}
        held = (device for record in records for device in record.devices)
        health = self._watchdog.health if self._watchdog else None
        return {name: state.value for name, state in admitting.survey(found, held, health).items()}

    def _explain_waiting(self) -> bytes:
        registered = "yes" if self._accepted.is_set() else "no"
        published = "yes" if self._publisher.published.is_set() else "no"
        folder = self._settings.kubelet_registry_dir
        missing = "" if self._has_registry() else f" ({folder} does not exist; see --kubelet-registry-dir)"
        return f"registered with the kubelet: {registered}{missing}; slices published: {published}\n".encode()


def _log_fault(operation: str, error: Exception) -> None:
    logs.LOGGER.error("defect in %s", operation, exc_info=error)
