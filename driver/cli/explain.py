"""`accel-dra explain`: why a claim or pod waits, what it has, or what a file would get before anything is created.

Reads the cluster once with whatever kubectl would use, needs read rights only and changes nothing. What it says comes
from `core.answering`, and so do the controller's Events.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import click
import yaml

from driver.cli import clusters, explain_text
from driver.cli.clusters import Look
from driver.core import answering, drafting, foreseeing, policies
from driver.core.answering import Answer, State
from driver.core.deciding import demands
from driver.core.deciding.stocks import DeviceStock
from driver.core.deciding.world import World
from driver.core.drafting import Draft
from driver.kube.client import Client
from driver.model import vocabulary
from driver.model.errors import InvalidInput, NotFound
from driver.model.wanted import Claim
from driver.model.workloads import Workload

EXIT_WAITING: Final = 3
"""Something waits: for devices, or for something else that the message names."""

_SUFFIXES: Final = (".yaml", ".yml", ".json")


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked: a claim or pod by name, or the documents of a file."""

    kind: str = ""
    name: str = ""
    namespace: str = ""
    documents: tuple[object, ...] = ()


@click.command("explain")
@click.argument("kind", required=False, type=click.Choice(["claim", "pod"]))
@click.argument("name", required=False)
@click.option("-f", "--file", help="YAML with claims, templates, pods, Deployments…; a folder; - is standard input.")
@click.option("-n", "--namespace", default="", help="Namespace; default: that of the kubeconfig's context.")
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True, help="Format.")
@click.option(
    "--kubeconfig",
    default="",
    envvar="ACCEL_DRA_KUBECONFIG",
    help="Path; default: what kubectl uses, or the pod's own.",
)
@click.option(
    "--driver-name",
    default=vocabulary.DEFAULT_DRIVER_NAME,
    envvar="ACCEL_DRA_DRIVER_NAME",
    show_default=True,
    help="Driver whose AllocationPolicy counts.",
)
def command(**options: str | None) -> int:
    """Say what a claim or pod has, would get, or waits for, and why. Changes nothing and needs read rights only.

    \b
    accel-dra explain claim NAME [-n NAMESPACE]    a ResourceClaim
    accel-dra explain pod NAME [-n NAMESPACE]      all claims of a pod
    accel-dra explain -f claims.yaml               claims, templates and pods of a file, before they are created

    Exit codes: 0 all of it has devices or would get them; 1 the cluster could not be asked (the message says why);
    2 the arguments or the file are wrong; 3 something waits.
    """  # noqa: D301 - click's own mark for a paragraph that is not to be re-wrapped
    question = _read_question(options)
    found = clusters.find_access(options["kubeconfig"] or "", os.environ)
    question = replace(question, namespace=question.namespace or found.namespace or "default")
    with contextlib.closing(Client(found)) as client:
        answers, others = answer(client, question, str(options["driver_name"]))
    write = explain_text.encode if options["output"] == "json" else explain_text.show
    click.echo(write(answers, others), nl=False)
    return EXIT_WAITING if any(each.state is State.WAITING or each.refusals for each in answers) else 0


def answer(client: Client, question: Question, driver: str) -> tuple[list[Answer], tuple[str, ...]]:
    """Return the answer for each claim that is asked about, and the documents that have no devices.

    Raises `NotFound` for an object that does not exist, `InvalidInput` for a wrong file, and what `clusters.look` does.
    """
    if question.documents:
        return _answer_documents(client, question, driver)
    seen = clusters.look(client)
    return _answer_claims(seen, _find_claims(seen, question), driver), ()


def _read_question(options: Mapping[str, str | None]) -> Question:
    kind, name, file = options["kind"], options["name"], options["file"]
    if (file is None) == (name is None) or (file is not None and kind is not None):
        given = " ".join(filter(None, (kind, name, f"-f {file}" if file is not None else "")))
        raise InvalidInput("explain", given, "claim NAME, pod NAME, or -f FILE")
    namespace = options["namespace"] or ""
    if file is None:
        return Question(kind or "", name or "", namespace)
    documents = tuple(each for each in _load(file) if each is not None)
    if not documents:
        raise InvalidInput("file", file, "at least one document")
    return Question(namespace=namespace, documents=documents)


def _load(file: str) -> list[object]:
    """Return the documents of a file. Raises `InvalidInput` if it cannot be read or is not YAML."""
    try:
        texts = [sys.stdin.read()] if file == "-" else [each.read_text(encoding="utf-8") for each in _list_files(file)]
        return [document for text in texts for document in yaml.safe_load_all(text)]
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise InvalidInput("file", file, f"a readable file of YAML documents ({reason})") from error


def _list_files(name: str) -> list[Path]:
    """Return the files of a folder that kubectl would read, or the file itself."""
    path = Path(name)
    return sorted(each for each in path.iterdir() if each.suffix in _SUFFIXES) if path.is_dir() else [path]


def _answer_claims(seen: Look, claims: Sequence[Claim], driver: str) -> list[Answer]:
    classes = seen.world.classes
    cluster = answering.Cluster(seen.world, seen.snapshot, DeviceStock(seen.slices, classes))
    answers = answering.answer(cluster, claims, lambda claim: policies.find(claim, classes, driver))
    return [_foresee(each, seen, driver) for each in answers]


def _foresee(given: Answer, seen: Look, driver: str) -> Answer:
    """Return the answer with what the node will say about the configuration of the claim."""
    if given.allocation is None:
        return given
    return replace(given, refusals=foreseeing.find_refusals(given.allocation, seen.slices, driver))


def _find_claims(seen: Look, question: Question) -> list[Claim]:
    """Return the claim that is asked about, or those of the pod."""
    key = f"{question.namespace}/{question.name}"
    if question.kind == "claim":
        claim = seen.world.claims.get(key)
        if claim is None:
            raise NotFound(f"there is no ResourceClaim {_place(question, seen.world.claims)}")
        return [claim]
    pod = seen.world.pods.get(key)
    if pod is None:
        raise NotFound(f"there is no pod {_place(question, seen.world.pods, ' with claims')}")
    return _find_claims_of(pod, seen.world)


def _find_claims_of(pod: Workload, world: World) -> list[Claim]:
    """Return the claims of a pod, and the one that kube-scheduler would make. Raises `NotFound` if it waits for one."""
    claims, missing = demands.claims_of(pod, world)
    if missing:
        raise NotFound(f"pod {pod.metadata.name} waits for {missing}, which does not exist (yet)")
    return [*claims, *_imagine(world, (pod,))]


def _imagine(world: World, pods: Iterable[Workload]) -> list[Claim]:
    """Return the claims that kube-scheduler would make for extended resources of pods."""
    names = {pod.metadata.uid for pod in pods}
    return [claim for claim, pod in demands.imagine_claims(world) if pod.metadata.uid in names]


def _place(question: Question, known: Iterable[str], what: str = "") -> str:
    """Say where was looked, and where else there is one of that name."""
    others = sorted(key.partition("/")[0] for key in known if key.partition("/")[2] == question.name)
    hint = f"; there is one in {others[0]}, see -n" if others else ""
    return f"{question.name}{what} in namespace {question.namespace}{hint}"


def _answer_documents(client: Client, question: Question, driver: str) -> tuple[list[Answer], tuple[str, ...]]:
    draft = drafting.read(question.documents, question.namespace)
    templates = clusters.fetch_templates(client, draft.missing_templates)
    draft = drafting.expand(replace(draft, templates=(*draft.templates, *templates)))
    seen = clusters.add(clusters.look(client), _complete(draft))
    claims = [*draft.claims, *(each for pod in draft.pods for each in _find_claims_of(pod, seen.world))]
    return _answer_claims(seen, [*{each.metadata.uid: each for each in claims}.values()], driver), draft.others


def _complete(draft: Draft) -> Draft:
    """Return the draft with a pod for every claim that no pod of the file uses, as if somebody had created one."""
    used = {(pod.metadata.namespace, pod.claim_name(entry)) for pod in draft.pods for entry in pod.spec.resource_claims}
    unused = (claim for claim in draft.claims if (claim.metadata.namespace, claim.metadata.name) not in used)
    return replace(draft, pods=(*draft.pods, *map(drafting.imagine_pod, unused)))
