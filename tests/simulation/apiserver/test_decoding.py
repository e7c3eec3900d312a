"""Bodies into objects and back: types, unknown fields, canonical forms, kept bytes."""

from __future__ import annotations

import json

import msgspec
import pytest

from driver.simulation.apiserver.decoding import DecodeError, Decoder, find_duplicates
from driver.simulation.apiserver.go_json import syntax_error
from driver.simulation.apiserver.go_values import dump, dump_list
from driver.simulation.apiserver.schemas import STRUCTS
from driver.simulation.apiserver.tidying import compact, reencode, render, same, tidy
from driver.simulation.apiserver.values import Json, JsonObject

STRING_INTO = "json: cannot unmarshal string into Go struct field "


def decode(kind: str, document: object) -> JsonObject:
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    return Decoder().decode(STRUCTS[kind], body)


def shown(kind: str, document: object) -> Json:
    value: Json = json.loads(render(STRUCTS[kind], tidy(STRUCTS[kind], decode(kind, document))))
    return value


@pytest.mark.parametrize(
    ("kind", "document", "message"),
    [
        ("Pod", {"spec": []}, "json: cannot unmarshal array into Go struct field Pod.spec of type v1.PodSpec"),
        (
            "Pod",
            {"spec": {"containers": {}}},
            "json: cannot unmarshal object into Go struct field PodSpec.spec.containers of type []v1.Container",
        ),
        (
            "Pod",
            {"spec": {"containers": [{"ports": [{"containerPort": "80"}]}]}},
            f"{STRING_INTO}ContainerPort.spec.containers.ports.containerPort of type int32",
        ),
        (
            "Pod",
            {"spec": {"hostNetwork": "true"}},
            "json: cannot unmarshal string into Go struct field PodSpec.spec.hostNetwork of type bool",
        ),
        (
            "Pod",
            {"metadata": {"labels": {"a": 1}}},
            "json: cannot unmarshal number into Go struct field ObjectMeta.metadata.labels of type string",
        ),
        (
            "Pod",
            {"spec": {"priority": 2**31}},
            "json: cannot unmarshal number 2147483648 into Go struct field PodSpec.spec.priority of type int32",
        ),
        (
            "Pod",
            {"spec": {"priority": True}},
            "json: cannot unmarshal bool into Go struct field PodSpec.spec.priority of type int32",
        ),
        ("Secret", {"data": {"a": "%"}}, "illegal base64 data at input byte 0"),
        (
            "Node",
            {"metadata": {"creationTimestamp": "yesterday"}},
            'parsing time "yesterday" as "2006-01-02T15:04:05Z07:00": cannot parse "yesterday" as "2006"',
        ),
        (
            "Node",
            {"metadata": {"creationTimestamp": 5}},
            "json: cannot unmarshal number into Go value of type string",
        ),
        (
            "Pod",
            {"spec": {"containers": [{"resources": {"limits": {"cpu": True}}}]}},
            "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
        ),
        (
            "Secret",
            {"data": {"a": 1}},
            "json: cannot unmarshal number into Go struct field Secret.data of type []uint8",
        ),
        (
            "Pod",
            {"spec": {"priority": 1.5}},
            "json: cannot unmarshal number 1.5 into Go struct field PodSpec.spec.priority of type int32",
        ),
        (
            "Lease",
            {"spec": {"renewTime": "2026-01-01T00:00:00Z"}},
            'parsing time "2026-01-01T00:00:00Z" as "2006-01-02T15:04:05.000000Z07:00": cannot parse "Z" as ".000000"',
        ),
    ],
)
def test_wrong_types_are_told_in_gos_words(kind: str, document: Json, message: str) -> None:
    with pytest.raises(DecodeError) as error:
        decode(kind, document)
    assert str(error.value) == message


def test_null_is_absent() -> None:
    assert decode("Pod", {"metadata": None, "spec": {"nodeName": None, "containers": [None]}}) == {
        "spec": {"containers": [{}]}
    }


def test_unknown_fields_are_dropped_and_named_in_document_order() -> None:
    decoder = Decoder()
    body = b'{"kind":"Pod","spec":{"x":1,"containers":[{"name":"a","y":2}],"volumes":[{}]},"z":3}'
    value = decoder.decode(STRUCTS["Pod"], body)
    assert value == {"kind": "Pod", "spec": {"containers": [{"name": "a"}], "volumes": [{}]}}
    assert decoder.unknown == [
        'unknown field "spec.x"',
        'unknown field "spec.containers[0].y"',
        'unknown field "z"',
    ]


def test_unknown_fields_beside_kept_bytes_are_found_too() -> None:
    decoder = Decoder()
    decoder.decode(
        STRUCTS["ResourceClaim"], b'{"spec":{"devices":{"config":[{"opaque":{"driver":"d","x":1},"y":2}]},"z":3}}'
    )
    assert decoder.unknown == [
        'unknown field "spec.devices.config[0].opaque.x"',
        'unknown field "spec.devices.config[0].y"',
        'unknown field "spec.z"',
    ]


def test_duplicate_keys_are_found_with_their_paths() -> None:
    assert find_duplicates(b'{"a":1,"a":2,"b":[{"c":1,"c":2,"c":3}]}') == [
        'duplicate field "a"',
        'duplicate field "b[0].c"',
        'duplicate field "b[0].c"',
    ]
    assert find_duplicates(b'{"a":{"a":1}}') == []


def test_quantities_and_times_become_canonical() -> None:
    node = shown("Node", {"status": {"capacity": {"a": "1024Mi", "b": 2, "c": "0.5"}}})
    assert isinstance(node, dict)
    assert isinstance(node["status"], dict)
    assert node["status"]["capacity"] == {"a": "1Gi", "b": "2", "c": "500m"}
    lease = decode("Lease", {"spec": {"renewTime": "2026-01-01T02:00:00.000001+02:00"}})
    assert lease == {"spec": {"renewTime": "2026-01-01T00:00:00.000001Z"}}


def test_empty_values_are_left_out_but_required_and_struct_fields_stay() -> None:
    assert shown("ResourceSlice", {"spec": {"devices": [], "allNodes": False}}) == {
        "metadata": {},
        "spec": {
            "driver": "",
            "pool": {"name": "", "generation": 0, "resourceSliceCount": 0},
            "allNodes": False,
        },
    }
    assert shown("Event", {}) == {
        "metadata": {},
        "involvedObject": {},
        "source": {},
        "firstTimestamp": None,
        "lastTimestamp": None,
        "eventTime": None,
        "reportingComponent": "",
        "reportingInstance": "",
    }


def test_tidying_is_idempotent_and_same_ignores_emptiness() -> None:
    slices = STRUCTS["ResourceSlice"]
    once = tidy(slices, decode("ResourceSlice", {"spec": {"devices": [{"name": "a", "attributes": {}}]}}))
    assert tidy(slices, once) == once
    assert same("Device", {"name": "a", "taints": []}, {"name": "a"})
    assert not same("Device", {"name": "a"}, {"name": "b"})
    assert not same("NodeSelector", None, {})


def test_opaque_bytes_are_kept_as_they_came() -> None:
    body = b'{"spec":{"devices":{"config":[{"opaque":{"driver":"d","parameters":{"b": 1.0, "a" : "<"}}}]}}}'
    value = decode("ResourceClaim", body)
    raw = value["spec"]["devices"]["config"][0]["opaque"]["parameters"]  # type: ignore[index,call-overload]  # known shape
    assert raw == msgspec.Raw(b'{"b": 1.0, "a" : "<"}')
    rendered = render(STRUCTS["ResourceClaim"], value)
    assert b'"parameters":{"b":1.0,"a":"\\u003c"}' in rendered


@pytest.mark.parametrize(
    ("raw", "packed", "again"),
    [
        (b'{ "b" : 1 , "a" : [ 1 ] }', b'{"b":1,"a":[1]}', b'{"a":[1],"b":1}'),
        (b'{"n":1.0}', b'{"n":1.0}', b'{"n":1}'),
        (b'{"n":1.5e3}', b'{"n":1.5e3}', b'{"n":1500}'),
        (b'{"s":"a b < c"}', b'{"s":"a b \\u003c c"}', b'{"s":"a b \\u003c c"}'),
        (b'{"s":"\\u0041"}', b'{"s":"\\u0041"}', b'{"s":"A"}'),
        ('{"s":"ü\u2028"}'.encode(), '{"s":"ü\\u2028"}'.encode(), '{"s":"ü\\u2028"}'.encode()),
        (b'{"q":"say \\" &"}', b'{"q":"say \\" \\u0026"}', b'{"q":"say \\" \\u0026"}'),
    ],
)
def test_kept_bytes_compacted_and_encoded_again(raw: bytes, packed: bytes, again: bytes) -> None:
    assert compact(raw) == packed
    assert reencode(raw) == again


def test_objects_in_messages_show_every_field_under_its_go_name() -> None:
    assert dump("PodResourceClaim", {"name": "a"}) == (
        '{"Name":"a","ResourceClaimName":null,"ResourceClaimTemplateName":null}'
    )
    assert dump_list("NodeSelectorTerm", []) == "[]"
    assert '"CEL":{"Expression":"a \\u003c b"}' in dump(
        "DeviceClassSpec", {"selectors": [{"cel": {"expression": "a < b"}}]}
    )


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"{}", ""),
        (b"", "unexpected end of JSON input"),
        (b'{"a":', "unexpected end of JSON input"),
        (b"{a}", "invalid character 'a' looking for beginning of object key string"),
        (b"nope", "invalid character 'n' looking for beginning of value"),
        (b'{"a" 1}', "invalid character '1' after object key"),
        (b'{"a":1 "b"}', "invalid character '\"' after object key:value pair"),
        (b"{}{}", "invalid character '{' after top-level value"),
    ],
)
def test_syntax_errors_in_gos_words(body: bytes, message: str) -> None:
    assert syntax_error(body) == message
