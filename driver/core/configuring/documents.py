"""One configuration of ours: the text of opaque parameters as a value, or everything that is wrong with it.

Called by `ruling` for the node, by `core.policies` for the controller, and by `checking` for the webhook and lint.
Promises: `InvalidInput` is the only error, `Faulty` if there are several faults; paths begin within the parameters and
are empty for what concerns all of them (`fields.put` adds the place).
"""

from __future__ import annotations

from typing import Final

from driver.core import quoting
from driver.core.configuring import policies, sharings, texts
from driver.core.configuring.fields import Reader, raise_all
from driver.core.configuring.sharings import DeviceConfig
from driver.core.configuring.texts import Fields
from driver.model import vocabulary
from driver.model.errors import InvalidInput
from driver.model.policies import Policy

ALLOCATION_POLICY: Final = "AllocationPolicy"
"""Asks our controller to allocate (`core.policies`). The node accepts it unread: a pod whose devices are allocated must
not fail for a wish about how to choose them."""
GPU_CONFIG: Final = "GpuConfig"
"""How whole devices are shared."""
PARTITION_CONFIG: Final = "PartitionConfig"
"""How partitions are shared."""
KINDS: Final = (ALLOCATION_POLICY, GPU_CONFIG, PARTITION_CONFIG)
"""Kinds of `config.accel-dra.dev/v1alpha1` that may stand in a class or claim."""
TYPE_OF_KIND: Final = {GPU_CONFIG: vocabulary.TYPE_GPU, PARTITION_CONFIG: vocabulary.TYPE_PARTITION}
"""Type of the devices that a kind is for; other kinds are for the claim as a whole."""
_META: Final = ("apiVersion", "kind")


def identify(parameters: bytes) -> str:
    """Return the kind of a configuration, and look at nothing else. Raises `InvalidInput` unless it is one of ours."""
    fields = texts.decode(parameters)
    faults: list[InvalidInput] = []
    kind = _read_meta(fields, faults)
    raise_all(faults)
    return kind


def read(parameters: bytes) -> Policy | DeviceConfig:
    """Return what a configuration says. Raises `InvalidInput` with every fault."""
    fields = texts.decode(parameters)
    faults: list[InvalidInput] = []
    kind = _read_meta(fields, faults)
    content = read_as(kind, fields, faults) if kind in KINDS else Policy()
    raise_all(faults)
    return content


def read_as(kind: str, fields: Fields, faults: list[InvalidInput]) -> Policy | DeviceConfig:
    """Return what the fields of a configuration of this kind say, noting the faults."""
    if kind == ALLOCATION_POLICY:
        return policies.read(Reader(fields, policies.FIELDS, faults, hidden=_META))
    reader = Reader(fields, sharings.FIELDS, faults, hidden=_META)
    return sharings.read(reader, partitions=kind == PARTITION_CONFIG)


def _read_meta(fields: Fields, faults: list[InvalidInput]) -> str:
    """Return the kind as it is written, and note what is wrong with it or with the version (metav1.TypeMeta)."""
    meta = Reader(Fields([(name, fields[name]) for name in _META if name in fields]), _META, faults)
    version, kind = fields.get("apiVersion"), fields.get("kind")
    if version != vocabulary.CONFIG_API_VERSION:
        meta.refuse("apiVersion", quoting.list_names((vocabulary.CONFIG_API_VERSION,), version))
    if not isinstance(kind, str) or kind not in KINDS:
        meta.refuse("kind", quoting.list_names(KINDS, kind))
    return kind if isinstance(kind, str) else ""
