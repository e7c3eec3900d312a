"""Documents of a file become the claims and pods that the cluster would make of them, or one clear sentence."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from driver.core import drafting, policies
from driver.core.drafting import Draft
from driver.model.errors import InvalidInput

EXAMPLES: Final = Path(__file__).parents[2] / "deploy" / "examples"
TEXT: Final = """
apiVersion: resource.k8s.io/v1
kind: ResourceClaimTemplate
metadata: {name: pair}
spec:
  metadata: {labels: {accel-dra.dev/group: g}}
  spec:
    devices:
      requests: [{name: gpus, exactly: {deviceClassName: topology.accel-dra.dev, count: 2}}]
      config:
      - opaque:
          driver: gpu.accel-dra.dev
          parameters:
            apiVersion: config.accel-dra.dev/v1alpha1
            kind: AllocationPolicy
            group: {size: 2}
---
apiVersion: v1
kind: Pod
metadata: {name: p}
spec:
  resourceClaims:
  - {name: gpus, resourceClaimTemplateName: pair}
  - {name: own, resourceClaimName: mine}
  containers: [{name: main, resources: {claims: [{name: gpus}]}}]
---
apiVersion: resource.k8s.io/v1
kind: ResourceClaim
metadata: {name: mine, namespace: other}
---
apiVersion: v1
kind: Service
metadata: {name: web}
"""


def read(text: str, namespace: str = "team") -> Draft:
    return drafting.read(list(yaml.safe_load_all(text)), namespace)


def test_a_pod_with_a_template_gets_a_claim_of_its_own() -> None:
    draft = drafting.expand(read(TEXT))
    mine, generated = draft.claims
    assert (str(mine), str(generated)) == ("other/mine", "team/p-gpus")
    assert generated.metadata.labels == {"accel-dra.dev/group": "g"}
    assert generated.spec.devices.requests[0].exactly is not None
    assert generated.spec.devices.requests[0].exactly.count == 2
    (pod,) = draft.pods
    assert [pod.claim_name(entry) for entry in pod.spec.resource_claims] == ["p-gpus", "mine"]
    assert draft.others == ("Service web",)


def test_opaque_parameters_are_read_like_those_of_the_cluster() -> None:
    policy = policies.find(drafting.expand(read(TEXT)).claims[1], {}, "gpu.accel-dra.dev")
    assert policy is not None
    assert policy.group is not None
    assert policy.group.size == 2


def test_a_template_without_a_pod_is_answered_as_one_claim() -> None:
    draft = drafting.expand(read(TEXT.split("---")[0]))
    assert [str(claim) for claim in draft.claims] == ["team/pair"]


def test_a_template_that_is_not_in_the_file_is_named_and_then_needed() -> None:
    draft = read(TEXT.split("---")[1])
    assert draft.missing_templates == {("team", "pair")}
    with pytest.raises(InvalidInput, match="pod p: resourceClaimTemplateName: 'pair'"):
        drafting.expand(draft)
    assert read(TEXT).missing_templates == frozenset()


def test_nameless_objects_get_names_and_nothing_is_the_same_object() -> None:
    claim = "apiVersion: resource.k8s.io/v1\nkind: ResourceClaim\n"
    draft = drafting.expand(read(f"{claim}metadata: {{generateName: a-}}\n---\n{claim}---\n"))
    assert [each.metadata.name for each in draft.claims] == ["a-1", "unnamed-2"]
    assert len({each.metadata.uid for each in draft.claims}) == 2


def test_an_empty_file_is_an_empty_draft() -> None:
    assert read("") == Draft()
    assert read("---\n---\n") == Draft()


@pytest.mark.parametrize("folder", sorted(EXAMPLES.glob("*/")), ids=lambda path: path.name)
def test_every_example_can_be_drafted(folder: Path) -> None:
    draft = drafting.expand(read("\n---\n".join(path.read_text() for path in sorted(folder.glob("*.yaml")))))
    assert draft.pods
    assert draft.others == ()


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("just words", "document 1: 'str' is not allowed"),
        ("[1]", "document 1: 'list' is not allowed"),
        ("a: 1", "document 1: kind: None is not allowed"),
        ("kind: 1", "document 1: kind: 1 is not allowed"),
        ("kind: ResourceClaims", "ResourceClaim was probably meant"),
        ("kind: Pod", "document 1: apiVersion: None is not allowed; allowed: v1 for a Pod"),
        ("kind: Service\n---\nkind: Pod\napiVersion: apps/v1", "document 2: apiVersion: 'apps/v1'"),
        ("kind: ResourceClaim\napiVersion: resource.k8s.io/v1beta1", "resource.k8s.io/v1 for a ResourceClaim"),
        (
            "kind: Pod\napiVersion: v1\nspec: 4",
            "document 1: spec: '4' is not allowed; allowed: Expected `object`",
        ),
        (
            "kind: ResourceClaim\napiVersion: resource.k8s.io/v1\nspec: {devices: {requests: [{name: 3}]}}",
            "document 1: spec.devices.requests[0].name: '3' is not allowed",
        ),
        ("kind: List\nitems: 4", "document 1: items: 'int' is not allowed; allowed: a list of objects"),
        (
            "kind: Job\nspec: {parallelism: 1000, template: {spec: {resourceClaims: [{}]}}}",
            "document 1: spec.parallelism: 1000 is not allowed; allowed: a number up to 500",
        ),
        ("kind: Pod\napiVersion: v1\nmetadata: null", "document 1: metadata: "),
    ],
)
def test_what_is_wrong_is_named_by_document_and_path(text: str, sentence: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        read(text)
    assert sentence in str(caught.value)


DEPLOYMENT: Final = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: other}
spec:
  replicas: 2
  template:
    metadata: {labels: {app: web}}
    spec:
      resourceClaims: [{name: gpus, resourceClaimTemplateName: pair}]
      containers: [{name: main}]
"""


def test_what_makes_pods_is_answered_for_its_pods() -> None:
    draft = drafting.expand(read(TEXT.split("---")[0] + "---" + DEPLOYMENT.replace("other", "team")))
    assert [str(claim) for claim in draft.claims] == ["team/web-0-gpus", "team/web-1-gpus"]
    assert len({claim.metadata.uid for claim in draft.claims} | {pod.metadata.uid for pod in draft.pods}) == 4
    assert (draft.pods[0].metadata.labels, draft.others) == ({"app": "web"}, ())


@pytest.mark.parametrize("kind", ["StatefulSet", "ReplicaSet", "Job", "CronJob"])
def test_every_kind_that_makes_pods_makes_one_if_it_does_not_say_how_many(kind: str) -> None:
    document = yaml.safe_load(DEPLOYMENT) | {"kind": kind}
    del document["spec"]["replicas"]
    if kind == "CronJob":
        document["spec"] = {"jobTemplate": {"spec": document["spec"]}}
    (pod,) = read(yaml.safe_dump(document)).pods
    assert (pod.metadata.namespace, pod.metadata.name) == ("other", "web-0")


def test_what_makes_pods_without_claims_is_left_out() -> None:
    assert read(DEPLOYMENT.replace("resourceClaims", "volumes")).others == ("Deployment web",)


def test_limits_that_a_class_may_serve_count_too() -> None:
    limits = "containers: [{name: main, resources: {limits: {example.com/gpu: 1}}}]"
    (pod,) = read(DEPLOYMENT.replace("replicas: 2", "replicas: 1").replace("containers: [{name: main}]", limits)).pods
    assert pod.spec.containers[0].resources.limits == {"example.com/gpu": 1}


def test_a_list_is_what_it_holds() -> None:
    items = [*yaml.safe_load_all(TEXT)]
    draft = read(yaml.safe_dump({"apiVersion": "v1", "kind": "List", "items": items}))
    assert (len(draft.claims), len(draft.templates), len(draft.pods), draft.others) == (1, 1, 1, ("Service web",))


CLAIM: Final = "kind: ResourceClaim\napiVersion: resource.k8s.io/v1\nspec: {{devices: {{{}}}}}"
REQUEST: Final = "requests: [{{name: r, exactly: {{deviceClassName: c{}}}}}]"


@pytest.mark.parametrize(
    ("devices", "sentence"),
    [
        (
            REQUEST.format(", cuont: 2"),
            "exactly.cuont: '2' is not allowed; allowed: only the fields adminAccess, alloc",
        ),
        (REQUEST.format(", cuont: 2"), "(count was probably meant)"),
        (REQUEST.format(", selectors: [{cel: {expresion: x}}]"), "selectors[0].cel.expresion: 'x'"),
        (REQUEST.format(", count: -1"), "exactly.count: -1 is not allowed; allowed: 1 or more"),
        (REQUEST.format(", allocationMode: Most"), "allocationMode: 'Most' is not allowed; allowed: ExactCount or All"),
        ("requests: [{name: r, exactly: {count: 2}}]", "exactly.deviceClassName: '' is not allowed"),
        ("requests: [{name: r}]", "requests[0]: 'neither' is not allowed; allowed: one of exactly and firstAvailable"),
        ("requests: [{name: R, exactly: {deviceClassName: c}}]", "requests[0].name: 'R' is not allowed"),
        (REQUEST.format("") + ", constraints: [{}]", "constraints[0]: 'neither' is not allowed"),
        (
            REQUEST.format("") + ", constraints: [{requests: [s], matchAttribute: a/b}]",
            "constraints[0].requests[0]: 's' is not allowed; allowed: a request of this claim: r",
        ),
        (REQUEST.format("") + ", config: [{requests: [s]}]", "config[0].requests[0]: 's' is not allowed"),
    ],
)
def test_what_the_api_server_refuses_is_refused_before(devices: str, sentence: str) -> None:
    with pytest.raises(InvalidInput, match=re.escape(sentence)):
        read(CLAIM.format(devices))


def test_fields_of_templates_and_classes_are_looked_at_too() -> None:
    with pytest.raises(InvalidInput, match=re.escape("document 1: spec.spec.devices.constraint:")):
        read(TEXT.split("---")[0].replace("config:", "constraint:"))
    with pytest.raises(InvalidInput, match=re.escape("spec.selector: '1'")):
        read("kind: DeviceClass\napiVersion: resource.k8s.io/v1\nspec: {selector: 1}")


@pytest.mark.parametrize(
    ("entry", "sentence"),
    [
        ("resourceClaimTemplatName: t", "resourceClaims[0].resourceClaimTemplatName: 't' is not allowed"),
        ("resourceClaimTemplatName: t", "(resourceClaimTemplateName was probably meant)"),
        ("", "resourceClaims[0]: 'neither' is not allowed; allowed: one of resourceClaimName and resourceClaimTemplat"),
        ("resourceClaimName: c, resourceClaimTemplateName: t", "resourceClaims[0]: 'both' is not allowed"),
    ],
)
def test_an_entry_of_a_pod_names_one_claim(entry: str, sentence: str) -> None:
    with pytest.raises(InvalidInput, match=re.escape(sentence)):
        read(f"kind: Pod\napiVersion: v1\nspec: {{resourceClaims: [{{name: g, {entry}}}]}}")


def test_a_count_of_0_is_one_left_out_as_for_kubernetes() -> None:
    (claim,) = read(CLAIM.format("requests: [{name: r, exactly: {deviceClassName: c, count: 0}}]")).claims
    part = claim.spec.devices.requests[0].exactly
    assert part is not None
    assert (part.count, part.allocation_mode) == (1, "ExactCount")


SCALARS: Final[st.SearchStrategy[object]] = st.sampled_from(
    [None, True, 0, "", "Pod", "v1", "gpu", [], {}, [{}], {"name": "x"}, 1.5]
)
OBJECTS = st.dictionaries(
    st.sampled_from(["kind", "apiVersion", "metadata", "spec", "status", "name"]),
    SCALARS | st.sampled_from(["ResourceClaim", "ResourceClaimTemplate", "DeviceClass", "resource.k8s.io/v1"]),
    max_size=5,
)


@settings(deadline=None)
@given(st.lists(OBJECTS | SCALARS, max_size=3))
def test_any_document_is_a_draft_or_one_sentence(documents: list[object]) -> None:
    try:
        drafting.expand(drafting.read(documents, "default"))
    except InvalidInput as error:
        assert "\n" not in str(error)  # noqa: PT017 - the property is about either outcome
