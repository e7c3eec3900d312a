"""JSON patch and merge patch: the examples of their RFCs, and kept bytes on the way."""

from __future__ import annotations

import msgspec
import pytest

from driver.simulation.apiserver import ApiError
from driver.simulation.apiserver.patches import apply_json_patch, merge
from driver.simulation.apiserver.values import Json


@pytest.mark.parametrize(
    ("target", "patch", "expected"),
    [  # RFC 7386, appendix A
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        (["a", "b"], ["c", "d"], ["c", "d"]),
        ({"a": "b"}, ["c"], ["c"]),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_merge_patch(target: Json, patch: Json, expected: Json) -> None:
    assert merge(target, patch) == expected


def test_merge_patch_keeps_bytes_it_does_not_touch_and_opens_those_it_does() -> None:
    raw = msgspec.Raw(b'{"b":1.0,"a":2}')
    assert merge({"x": raw, "y": 1}, {"y": 2}) == {"x": raw, "y": 2}
    assert merge({"x": raw}, {"x": {"a": 3}}) == {"x": {"a": 3, "b": 1.0}}


@pytest.mark.parametrize(
    ("target", "operations", "expected"),
    [  # RFC 6902, appendix A
        ({"foo": "bar"}, [{"op": "add", "path": "/baz", "value": "qux"}], {"baz": "qux", "foo": "bar"}),
        ({"foo": ["bar", "baz"]}, [{"op": "add", "path": "/foo/1", "value": "qux"}], {"foo": ["bar", "qux", "baz"]}),
        ({"baz": "qux", "foo": "bar"}, [{"op": "remove", "path": "/baz"}], {"foo": "bar"}),
        ({"foo": ["a", "b", "c"]}, [{"op": "remove", "path": "/foo/1"}], {"foo": ["a", "c"]}),
        ({"a": 1}, [{"op": "replace", "path": "/a", "value": 2}], {"a": 2}),
        ({"a": {"b": 1}, "c": {}}, [{"op": "move", "from": "/a/b", "path": "/c/d"}], {"a": {}, "c": {"d": 1}}),
        ({"a": [1, 2, 3]}, [{"op": "move", "from": "/a/0", "path": "/a/2"}], {"a": [2, 3, 1]}),
        ({"a": {"b": 1}}, [{"op": "copy", "from": "/a", "path": "/c"}], {"a": {"b": 1}, "c": {"b": 1}}),
        ({"a": [1]}, [{"op": "add", "path": "/a/-", "value": [2]}], {"a": [1, [2]]}),
        ({"a/b": 1, "m~n": 2}, [{"op": "test", "path": "/a~1b", "value": 1}], {"a/b": 1, "m~n": 2}),
        ({"m~n": 2}, [{"op": "replace", "path": "/m~0n", "value": 3}], {"m~n": 3}),
        ({"a": 1}, [{"op": "replace", "path": "", "value": {"b": 2}}], {"b": 2}),
    ],
)
def test_json_patch(target: Json, operations: list[Json], expected: Json) -> None:
    assert apply_json_patch(target, operations) == expected


@pytest.mark.parametrize(
    "operation",
    [
        {"op": "test", "path": "/a", "value": 2},
        {"op": "remove", "path": "/b"},
        {"op": "remove", "path": ""},
        {"op": "replace", "path": "/b", "value": 1},
        {"op": "add", "path": "/b/c", "value": 1},
        {"op": "add", "path": "/list/9", "value": 1},
        {"op": "add", "path": "/list/x", "value": 1},
        {"op": "remove", "path": "/list/-9"},
        {"op": "bogus", "path": "/a"},
        {"op": "add", "path": "a", "value": 1},
        {"op": "add", "value": 1},
        {"path": "/a", "value": 1},
        "not an object",
    ],
)
def test_a_failing_operation_is_a_422_without_details(operation: Json) -> None:
    with pytest.raises(ApiError) as refusal:
        apply_json_patch({"a": 1, "list": [1]}, [operation])
    assert refusal.value.code == 422
    assert refusal.value.body["details"] == {}


def test_json_patch_opens_kept_bytes_on_its_way_only() -> None:
    raw = msgspec.Raw(b'{"a":{"b":1}}')
    patched = apply_json_patch({"x": raw, "y": raw}, [{"op": "replace", "path": "/x/a/b", "value": 2}])
    assert patched == {"x": {"a": {"b": 2}}, "y": raw}
    assert apply_json_patch({"x": raw}, [{"op": "test", "path": "/x", "value": {"a": {"b": 1}}}]) is not None
