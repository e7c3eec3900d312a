"""The schemas against the official client: no field is invented, none is missing."""

from __future__ import annotations

import re

import pytest

from driver.simulation.apiserver.kinds import RESOURCES
from driver.simulation.apiserver.schemas import STRUCTS, ListOf, MapOf, Scalar, Struct, struct_of

client = pytest.importorskip("kubernetes.client", reason="the official client is not installed")

PREFIXES = ("V1", "CoreV1", "EventsV1", "RbacV1", "AuthenticationV1", "ResourceV1")
OTHER_NAMES = {
    "EnvSource": "V1ConfigMapEnvSource",
    "Event": "CoreV1Event",
    "EventSeries": "CoreV1EventSeries",
    "KeySelector": "V1ConfigMapKeySelector",
    "ResourceClaim": "ResourceV1ResourceClaim",
    "ResourceClaimReference": "CoreV1ResourceClaim",
    "SecurityProfile": "V1SeccompProfile",
    "events.Event": "EventsV1Event",
    "events.EventSeries": "EventsV1EventSeries",
}
OF_136_ONLY = {
    "Container": {"targetContainerName"},
    "Device": {"nodeAllocatableResourceMappings"},
    "PodSpec": {"workloadRef"},
}
"""Fields that other versions than the client's have."""
GONE = {"NodeAllocatableResourceMapping"}
"""Types of 1.36 that 1.37 replaced."""


def squeeze(name: str) -> str:
    return re.sub("[^a-z0-9]", "", name.lower())


def official_fields(struct: Struct) -> set[str] | None:
    wanted = OTHER_NAMES.get(struct.name)
    names = [wanted] if wanted else [f"{prefix}{struct.go_name}" for prefix in PREFIXES]
    model = next((getattr(client, name) for name in names if hasattr(client, name)), None)
    return None if model is None else {squeeze(field.alias or name) for name, field in model.model_fields.items()}


@pytest.mark.parametrize("name", sorted(set(STRUCTS) - GONE))
def test_every_field_is_one_the_official_client_knows(name: str) -> None:
    struct = STRUCTS[name]
    official = official_fields(struct)
    assert official is not None
    invented = {field for field in struct.fields if squeeze(field) not in official}
    assert invented <= OF_136_ONLY.get(name, set())


@pytest.mark.parametrize(
    "name",
    ["ResourceClaimSpec", "DeviceRequest", "AllocationResult", "ResourceClaimStatus", "DeviceClassSpec", "Taint"],
)
def test_types_of_dra_that_have_not_changed_since_are_complete(name: str) -> None:
    assert official_fields(STRUCTS[name]) == {squeeze(field) for field in STRUCTS[name].fields}


def test_every_resource_has_a_schema_with_metadata() -> None:
    for resource in RESOURCES:
        assert "metadata" in struct_of(resource.group, resource.kind).fields


def test_keys_of_list_maps_are_fields_of_their_items() -> None:
    for struct in STRUCTS.values():
        for field in struct.fields.values():
            if not field.keys and not field.merge:
                continue
            assert isinstance(field.type, ListOf), (struct.name, field.name)
            item = field.type.item
            if isinstance(item, Struct):
                assert {*field.keys, *filter(None, [field.merge])} <= set(item.fields), (struct.name, field.name)


def test_bytes_are_kept_where_drivers_put_theirs() -> None:
    keeping = {name for name, struct in STRUCTS.items() if struct.has_raw and "metadata" in struct.fields}
    assert keeping == {"DeviceClass", "ResourceClaim", "ResourceClaimTemplate", "ResourceClaimTemplateSpec"}


def test_types_are_made_of_known_parts() -> None:
    def check(of: object) -> None:
        if isinstance(of, ListOf):
            check(of.item)
        elif isinstance(of, MapOf):
            check(of.value)
        else:
            assert isinstance(of, (Scalar, Struct))

    for struct in STRUCTS.values():
        for field in struct.fields.values():
            check(field.type)
