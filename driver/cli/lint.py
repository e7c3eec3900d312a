"""`accel-dra lint`: what is wrong with claims, templates and classes, before anybody creates them. Needs no cluster.

Reads files and standard output only. It says what the webhook says (`core.reviewing`), and what kubectl and the API
server would say of the same documents (`core.proofreading`), all at once.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import click
import msgspec

from driver.cli import yaml_documents
from driver.cli.commands import EXIT_FAILED
from driver.cli.yaml_documents import Broken, Document
from driver.core import proofreading, quoting, surrogates
from driver.core.quoting import NOTHING
from driver.core.reviewing import findings, reviews, selecting, subjects
from driver.core.reviewing.findings import Finding
from driver.core.reviewing.selecting import Stage
from driver.core.reviewing.subjects import CLAIM, CLASS, GROUP, KINDS, TEMPLATE, VERSIONS, Subject
from driver.model import vocabulary
from driver.model.errors import InvalidInput
from driver.model.objects import Api
from driver.model.published import PublishedSlice
from driver.model.requests import ClaimSpec, ClassSpec, TemplateSpec

EXIT_FAULTS: Final = EXIT_FAILED
"""At least one fault was found."""

_SLICE: Final = "ResourceSlice"
_SPECS: Final[Mapping[str, type[Api]]] = {CLAIM: ClaimSpec, TEMPLATE: TemplateSpec, CLASS: ClassSpec}
_PROOFREAD: Final = ("v1", "v1beta2")
"""Versions of the one shape that proofreading knows."""
_slices: Final = msgspec.json.Decoder(PublishedSlice)
_claim_specs: Final = msgspec.json.Decoder(ClaimSpec)


@dataclass(frozen=True, slots=True)
class Report:
    """One finding, and where it is."""

    file: str
    document: int
    name: str
    """Kind and name of the object, as far as they could be read."""
    finding: Finding


@dataclass(frozen=True, slots=True)
class Sheet:
    """One object that is looked at."""

    document: Document
    subject: Subject | None
    """None: it could not be read."""
    faults: tuple[Finding, ...] = ()
    """Of its shape."""


@dataclass(frozen=True, slots=True)
class Pile:
    """Everything that the files hold."""

    sheets: tuple[Sheet, ...]
    broken: tuple[Broken, ...]
    slices: tuple[PublishedSlice, ...]
    skipped: tuple[Document, ...]


@click.command("lint")
@click.argument("files", nargs=-1, required=True)
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True)
@click.option("-v", "--verbose", is_flag=True, help="Name the documents of other kinds, which are skipped.")
@click.option(
    "--driver-name",
    default=vocabulary.DEFAULT_DRIVER_NAME,
    envvar="ACCEL_DRA_DRIVER_NAME",
    show_default=True,
    help="Driver whose configuration is checked.",
)
def command(files: tuple[str, ...], output: str, verbose: bool, driver_name: str) -> int:  # noqa: FBT001 - click's way
    """Check ResourceClaims, ResourceClaimTemplates and DeviceClasses of FILES before anybody creates them.

    FILES are YAML or JSON, of one or several documents; folders are read as a whole; - is standard input. All faults
    of all documents are told, and warnings about what will probably not do what was meant. ResourceSlices among the
    files say which devices there are. Needs no cluster.

    Exit codes: 0 no fault was found, but perhaps warnings; 1 at least one fault; 2 the arguments are wrong.
    """
    names = dict.fromkeys(file for name in files for file in yaml_documents.list_files(name))
    pile = sort([each for name in names for each in yaml_documents.read(name)])
    reports = list(lint(pile, driver_name))
    if output == "json":
        click.echo(encode(reports, pile))
    else:
        for report in reports:
            click.echo(describe(report))
        for document in pile.skipped if verbose else ():
            click.echo(f"{_place(document)}: skipped", err=True)
        click.echo(summarize(reports, pile), err=True)
    return EXIT_FAULTS if any(not each.finding.is_warning for each in reports) else 0


def sort(documents: Iterable[Document | Broken]) -> Pile:
    """Return the documents by what they are for."""
    sheets: list[Sheet] = []
    broken: list[Broken] = []
    slices: list[PublishedSlice] = []
    skipped: list[Document] = []
    for document in documents:
        if isinstance(document, Broken):
            broken.append(document)
            continue
        version, kind = document.content.get("apiVersion"), document.content.get("kind")
        if version is None and kind is None:  # a file of something else, in a folder of all kinds
            skipped.append(document)
            continue
        fault = _check_kind(version, kind)
        if fault is not None:
            sheets.append(Sheet(document, None, (fault,)))
        elif kind in KINDS:
            sheets.append(_read(document, str(kind), str(version)))
        elif kind == _SLICE and (found := _read_slice(document)) is not None:
            slices.append(found)
        else:
            skipped.append(document)
    return Pile(tuple(sheets), tuple(broken), tuple(slices), tuple(skipped))


def lint(pile: Pile, driver: str) -> Iterator[Report]:
    """Yield what is wrong with all documents, file by file."""
    subjects_ = [sheet.subject for sheet in pile.sheets if sheet.subject is not None]
    classes = {each.metadata.name: each.as_class for each in subjects_ if each.as_class is not None}
    stage = selecting.open_stage(driver, classes, pile.slices or None)
    reports = [Report(each.file, each.number, "", each.finding) for each in pile.broken]
    for sheet in pile.sheets:
        document = sheet.document
        found = [*sheet.faults, *_review(sheet.subject, driver, stage)]
        for each in sorted(found, key=lambda finding: finding.is_warning):
            finding = Finding(f"{document.path}{each.path}", each.text, each.is_warning)
            reports.append(Report(document.file, document.number, _name(document), finding))
    order = {file: place for place, file in enumerate(dict.fromkeys(each.file for each in reports))}
    yield from sorted(reports, key=lambda each: (order[each.file], each.document))


def describe(report: Report) -> str:
    """Return one line for a finding."""
    name = f" ({report.name})" if report.name else ""
    kind = "warning: " if report.finding.is_warning else ""
    return f"{report.file}, document {report.document}{name}: {kind}{report.finding}"


def encode(reports: Sequence[Report], pile: Pile) -> str:
    """Return everything as JSON for scripts."""
    found = [
        {
            "file": each.file,
            "document": each.document,
            "object": each.name,
            "severity": "warning" if each.finding.is_warning else "fault",
            "path": each.finding.path,
            "message": each.finding.text,
        }
        for each in reports
    ]
    skipped = [{"file": each.file, "document": each.number, "object": _name(each)} for each in pile.skipped]
    return json.dumps({"findings": found, "reviewed": len(pile.sheets), "skipped": skipped}, indent=2)


def summarize(reports: Sequence[Report], pile: Pile) -> str:
    """Return the last line: how much was looked at and found."""
    warnings = sum(each.finding.is_warning for each in reports)
    parts = [
        f"{_count(len(pile.sheets), 'object')} checked",
        _count(len(reports) - warnings, "fault"),
        _count(warnings, "warning"),
        f"{_count(len(pile.skipped), 'document')} of other kinds skipped",
    ]
    return ", ".join(parts)


def _check_kind(version: object, kind: object) -> Finding | None:
    """Return what is wrong with apiVersion and kind, if it matters here."""
    if not isinstance(kind, str) or not isinstance(version, str):
        field, value = ("kind", kind) if not isinstance(kind, str) else ("apiVersion", version)
        shown = NOTHING if value is None else quoting.show(value)
        return Finding(field, f"{shown!r} is not allowed; allowed: that of a Kubernetes object")
    group, _, number = version.partition("/")
    if kind in KINDS and (group != GROUP or number not in VERSIONS):
        allowed = quoting.list_names((f"{GROUP}/{each}" for each in VERSIONS), version)
        return Finding("apiVersion", f"{quoting.show(version)!r} is not allowed; allowed: {allowed} for a {kind}")
    if group == GROUP and kind not in KINDS and "probably meant" in quoting.list_names(KINDS, kind):
        if kind in (_SLICE, "ResourceClaimParameters", "ResourceClassParameters"):
            return None
        return Finding("kind", f"{quoting.show(kind)!r} is not allowed; allowed: {quoting.list_names(KINDS, kind)}")
    return None


def _read(document: Document, kind: str, version: str) -> Sheet:
    """Read one object, and find what is wrong with its shape."""
    try:
        text = surrogates.mend(yaml_documents.write_json(document.content))
        faults = list(yaml_documents.list_repeated(document.content))
        subject = subjects.decode(kind, text)
    except InvalidInput as error:
        return Sheet(document, None, tuple(findings.of_error(error)))
    if version.partition("/")[2] in _PROOFREAD:
        for fault in _proofread(document.content.get("spec"), kind):
            faults += findings.of_error(fault)
    return Sheet(document, subject, tuple(faults))


def _proofread(spec: object, kind: str) -> Iterator[InvalidInput]:
    """Yield what kubectl and the API server would refuse, whoever's devices it is about."""
    yield from proofreading.find_unknown_fields(spec, _SPECS[kind], "spec")
    path = "spec"
    if kind == TEMPLATE and isinstance(spec, dict):
        path, spec = "spec.spec", spec.get("spec")
    if kind != CLASS:
        written = surrogates.mend(yaml_documents.write_json(spec))
        try:
            yield from proofreading.find_faults(_claim_specs.decode(written if spec is not None else b"{}"), path)
        except msgspec.MsgspecError:
            return  # decoding the object as a whole has said so


def _read_slice(document: Document) -> PublishedSlice | None:
    try:
        return _slices.decode(yaml_documents.write_json(document.content))
    except (msgspec.MsgspecError, ValueError, InvalidInput):
        return None


def _review(subject: Subject | None, driver: str, stage: Stage) -> Sequence[Finding]:
    return reviews.review(subject, driver, stage) if subject is not None else ()


def _name(document: Document) -> str:
    content = document.content
    metadata = content.get("metadata")
    meta = metadata if isinstance(metadata, dict) else {}
    name = meta.get("name") or meta.get("generateName") or "unnamed"
    namespace = f"{meta['namespace']}/" if meta.get("namespace") else ""
    return quoting.shorten(" ".join(f"{content.get('kind') or 'object'} {namespace}{name}".split()))


def _place(document: Document) -> str:
    return f"{document.file}, document {document.number} ({_name(document)})"


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
