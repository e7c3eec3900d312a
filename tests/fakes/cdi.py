"""The CDI specification as a judge: says whether a container runtime would take a document."""

from __future__ import annotations

import functools
import json
from pathlib import Path

import jsonschema

SCHEMA = Path(__file__).resolve().parent.parent / "data" / "cdi-schema.json"


@functools.cache
def _validator() -> jsonschema.Draft7Validator:
    return jsonschema.Draft7Validator(json.loads(SCHEMA.read_text()))


def check(text: bytes) -> dict[str, object]:
    """Return the document. Raises `jsonschema.ValidationError` if it is not valid, or its version is too low."""
    document = json.loads(text)
    _validator().validate(document)
    assert isinstance(document, dict)
    assert _order(str(document["cdiVersion"])) >= _order(_required(document)), "the version lacks what is used"
    return document


def _order(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def _required(document: dict[str, object]) -> str:
    """Return the version that a document needs (specs-go/version.go), from its text and not from our types."""
    text = json.dumps(document)
    devices = document["devices"]
    assert isinstance(devices, list)
    if '"additionalGids"' in text or '"intelRdt"' in text:
        return "0.7.0"
    if '"annotations"' in text:
        return "0.6.0"
    nodes = [node for part in (document, *devices) for node in part.get("containerEdits", {}).get("deviceNodes", ())]
    if any(entry["name"][0].isdigit() for entry in devices) or any("hostPath" in node for node in nodes):
        return "0.5.0"
    mounts = [mount for part in (document, *devices) for mount in part.get("containerEdits", {}).get("mounts", ())]
    return "0.4.0" if any("type" in mount for mount in mounts) else "0.3.0"
