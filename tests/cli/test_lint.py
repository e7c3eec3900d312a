"""`accel-dra lint` as a person or a pipeline runs it: what it reads, what it says, and how it ends."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st

from driver.cli import lint
from driver.cli.yaml_documents import read
from driver.core.configuring import documents, fields
from driver.model.errors import InvalidInput
from tests.fakes.bad_configurations import TABLE, Bad

ROOT = Path(__file__).parents[2]
CLAIM = """
apiVersion: resource.k8s.io/v1
kind: ResourceClaim
metadata: {name: c, namespace: team}
spec:
  devices:
    requests:
    - name: gpu
      exactly: {deviceClassName: gpu.accel-dra.dev, count: 2}
    config:
    - requests: [gpu]
      opaque:
        driver: gpu.accel-dra.dev
        parameters:
          apiVersion: config.accel-dra.dev/v1alpha1
          kind: GpuConfig
          sharing:
            strategy: MPS
            mps: {activeThreadPercentage: 50, perDevice: [{index: 1, pinnedMemoryLimit: 4Gi}]}
"""
PARAMETERS = "spec.devices.config[0].opaque.parameters"


def run(*arguments: str, text: str | None = None) -> Result:
    return CliRunner().invoke(lint.command, arguments, input=text, catch_exceptions=False, standalone_mode=False)


def check(text: str) -> list[str]:
    """Return the findings for a text, as `path: message`, warnings marked."""
    found = json.loads(run("-o", "json", "-", text=text).stdout)["findings"]
    marks = {"fault": "", "warning": "warning: "}
    return [f"{marks[each['severity']]}{each['path']}: {each['message']}" for each in found]


def test_a_clean_file_ends_well() -> None:
    result = run("-", text=CLAIM)
    assert (result.return_value, result.stdout) == (0, "")
    assert result.stderr == "1 object checked, 0 faults, 0 warnings, 0 documents of other kinds skipped\n"


def test_all_faults_of_all_documents_are_told_with_their_place() -> None:
    text = (
        CLAIM.replace("MPS", "Mps").replace("index: 1", "index: '1'") + "---\n" + CLAIM.replace("count: 2", "count: 1")
    )
    result = run("-", text=text)
    assert result.return_value == lint.EXIT_FAULTS
    place = "standard input, document {} (ResourceClaim team/c): " + PARAMETERS
    first, second, third = result.stdout.splitlines()
    assert first.startswith(f"{place.format(1)}.sharing.strategy: 'Mps' is not allowed; allowed: Exclusive, Time")
    assert second.startswith(f"{place.format(1)}.sharing.mps.perDevice[0].index: '1' is not allowed; ")
    assert third.startswith(
        f"{place.format(2)}.sharing.mps.perDevice[0].index: 1 is not allowed; allowed: 0: the request"
    )
    assert "2 objects checked, 3 faults" in result.stderr


def test_warnings_alone_end_well() -> None:
    result = run("-", text=CLAIM.replace("driver: gpu.accel-dra.dev", "driver: gpu.acceldra.dev"))
    assert result.return_value == 0
    assert "warning: spec.devices.config[0].opaque.driver: 'gpu.acceldra.dev' is no name of ours" in result.stdout
    assert "0 faults, 1 warning," in result.stderr


def test_another_driver_name_may_be_ours() -> None:
    broken = CLAIM.replace("MPS", "Mps").replace("driver: gpu.accel-dra.dev", "driver: gpu.acme.com")
    assert run("-", text=broken).return_value == 0
    assert run("--driver-name", "gpu.acme.com", "-", text=broken).return_value == lint.EXIT_FAULTS


def test_files_and_folders_are_read_and_named(tmp_path: Path) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    (inner / "a.yaml").write_text(CLAIM.replace("MPS", "Mps"))
    (tmp_path / "b.yml").write_text(CLAIM)
    (tmp_path / "values.yaml").write_text("replicas: 3\n")
    (tmp_path / "notes.txt").write_text("[")
    result = run("-v", str(tmp_path), str(tmp_path / "b.yml"))
    assert result.return_value == lint.EXIT_FAULTS
    assert result.stdout.startswith(f"{inner / 'a.yaml'}, document 1 ")
    assert "2 objects checked" in result.stderr
    assert f"{tmp_path / 'values.yaml'}, document 1 (object unnamed): skipped" in result.stderr


@pytest.mark.parametrize("arguments", [["no-such-file.yaml"], ["-o", "json", "/no/such/folder"]])
def test_a_file_that_is_not_there_is_wrong_use(arguments: list[str]) -> None:
    with pytest.raises(InvalidInput, match="a file or folder that exists"):
        run(*arguments)


def test_a_folder_with_nothing_to_read_is_wrong_use(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="a folder with files that end in"):
        run(str(tmp_path))


@pytest.mark.parametrize(
    ("arguments", "code"), [(["-"], 1), ([], 2), (["missing.yaml"], 2), (["-o", "xml", "-"], 2), (["--help"], 0)]
)
def test_exit_codes_of_the_process(arguments: list[str], code: int) -> None:
    text = CLAIM.replace("MPS", "Mps")
    command = [sys.executable, "-m", "driver", "lint", *arguments]
    done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=50, check=False, cwd=ROOT)
    assert done.returncode == code, done.stderr


def test_a_text_that_is_no_yaml_does_not_hide_what_comes_before_and_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(f"{CLAIM.replace('MPS', 'Mps')}---\n[\n")
    (tmp_path / "b.yaml").write_text(CLAIM.replace("MPS", "Mps"))
    lines = run(str(tmp_path)).stdout.splitlines()
    assert [line.partition(": ")[0].removeprefix(f"{tmp_path}/") for line in lines] == [
        "a.yaml, document 1 (ResourceClaim team/c)",
        "a.yaml, document 2",
        "b.yaml, document 1 (ResourceClaim team/c)",
    ]
    assert "is no YAML" in lines[1]


@pytest.mark.parametrize(
    "text",
    ["a: *b", "- 1", "{", "a: !!python/object:os.system {}", "&a [*a]", "a: &a {b: *a}", "\x00", "[" * 3000, "=: ="],
)
def test_whatever_is_written_is_answered(text: str) -> None:
    result = run("-", text=text)
    assert result.return_value in (0, 1)
    assert len(result.stdout.splitlines()) <= 1


def test_an_endless_document_is_refused() -> None:
    lines = ["apiVersion: resource.k8s.io/v1", "kind: ResourceClaim", "a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    (only,) = check("\n".join(lines))
    assert "200000 values" in only


def test_a_field_that_is_written_twice_is_named() -> None:
    twice = CLAIM.replace("count: 2", "count: 2, count: 2").replace("strategy: MPS", "strategy: MPS, strategy: MPS")
    twice = twice.replace(
        "          sharing:\n            strategy: MPS, strategy: MPS",
        "          sharing:\n            strategy: MPS\n            strategy: MPS",
    )
    first, second = check(twice)
    assert first == "spec.devices.requests[0].exactly.count: is written several times; each field may be written once"
    assert second.startswith(f"{PARAMETERS}.sharing.strategy: 'MPS' is not allowed; allowed: each field once")


def test_merged_fields_are_not_written_twice() -> None:
    text = CLAIM.replace(
        "metadata: {name: c, namespace: team}", "x-labels: &labels {a: b, name: d}\nmetadata: {<<: *labels, name: c}"
    )
    assert check(text) == []


def test_a_misspelled_field_is_named_with_the_one_that_was_meant() -> None:
    found = check(CLAIM.replace("config:", "configs:").replace("count: 2", "cuont: 2"))
    assert [each.partition(":")[0] for each in found] == [
        "spec.devices.requests[0].exactly.cuont",
        "spec.devices.configs",
    ]
    assert "count was probably meant" in found[0]


def test_requests_that_do_not_exist_are_named() -> None:
    (only,) = check(CLAIM.replace("requests: [gpu]", "requests: [gpus]"))
    assert only.startswith(
        "spec.devices.config[0].requests[0]: 'gpus' is not allowed; allowed: a request of this claim"
    )


@pytest.mark.parametrize(
    ("version", "asked"),
    [
        ("v1", "exactly: {deviceClassName: gpu.accel-dra.dev, count: 1}"),
        ("v1beta2", "exactly: {deviceClassName: gpu.accel-dra.dev, count: 1}"),
        ("v1beta1", "deviceClassName: gpu.accel-dra.dev"),
    ],
)
def test_peer_defect_14_all_served_versions_are_read(version: str, asked: str) -> None:
    text = CLAIM.replace("/v1\n", f"/{version}\n", 1)
    text = text.replace("exactly: {deviceClassName: gpu.accel-dra.dev, count: 2}", asked)
    (only,) = check(text)
    assert only.startswith(f"{PARAMETERS}.sharing.mps.perDevice[0].index: 1 is not allowed")


def test_the_items_of_a_list_are_looked_at_one_by_one() -> None:
    broken = json.loads(json.dumps(yaml.safe_load(CLAIM.replace("MPS", "Mps"))))
    (only,) = check(
        json.dumps({"apiVersion": "v1", "kind": "List", "items": [{"kind": "Pod", "apiVersion": "v1"}, broken]})
    )
    assert only.startswith("items[1].spec.devices.config[0].opaque.parameters.sharing.strategy: 'Mps'")


@pytest.mark.parametrize(
    ("head", "words"),
    [
        ("apiVersion: v1\nkind: ResourceClaim", "apiVersion: 'v1' is not allowed; allowed: resource.k8s.io/v1,"),
        ("apiVersion: resource.k8s.io/v1alpha3\nkind: DeviceClass", "apiVersion: 'resource.k8s.io/v1alpha3'"),
        ("apiVersion: resource.k8s.io/v1\nkind: ResourceClaimTemplates", "(ResourceClaimTemplate was probably meant)"),
        ("kind: ResourceClaim", "apiVersion: nothing is not allowed"),
        ("apiVersion: resource.k8s.io/v1", "kind: nothing is not allowed"),
        ("apiVersion: [1]\nkind: ResourceClaim", "apiVersion: [1] is not allowed"),
        ("apiVersion: resource.k8s.io/v1\nkind: ResourceClaim\nspec: 5", "spec: 5 is not allowed; allowed: an object"),
        ("apiVersion: resource.k8s.io/v1\nkind: DeviceClass\nspec: {config: {}}", "spec.config: {} is not allowed"),
    ],
)
def test_what_is_no_object_of_kubernetes_is_named(head: str, words: str) -> None:
    assert words in " ".join(check(head))


def test_other_kinds_are_skipped() -> None:
    text = "apiVersion: v1\nkind: Pod\n---\napiVersion: resource.k8s.io/v1\nkind: DeviceTaintRule\n---\n\n---\na: b\n"
    result = run("-o", "json", "-", text=text)
    document = json.loads(result.stdout)
    assert (result.return_value, document["findings"], document["reviewed"]) == (0, [], 0)
    assert [each["document"] for each in document["skipped"]] == [1, 2, 4]


def test_classes_of_the_files_and_slices_decide_what_a_request_can_get() -> None:
    device_class = """
apiVersion: resource.k8s.io/v1
kind: DeviceClass
metadata: {name: parts}
spec:
  selectors:
  - cel: {expression: 'device.attributes["accel-dra.dev"].?type.orValue("") == "partition"'}
"""
    published = """
apiVersion: resource.k8s.io/v1
kind: ResourceSlice
metadata: {name: s}
spec:
  driver: gpu.accel-dra.dev
  nodeName: a
  pool: {name: a, generation: 1, resourceSliceCount: 1}
  devices: [{name: gpu-0, attributes: {accel-dra.dev/type: {string: gpu}}}]
"""
    claim = CLAIM.replace("deviceClassName: gpu.accel-dra.dev", "deviceClassName: parts")
    mismatch = f"warning: {PARAMETERS}.kind: is for devices of type gpu, and request gpu gets partition"
    assert check(f"{device_class}---{claim}") == [mismatch]
    unmatched = "warning: spec.selectors: no device that is published now matches this class"
    assert check(f"{claim}---{device_class}---{published}") == [mismatch, unmatched]
    assert check(f"{device_class}---{published.replace('string: gpu', 'string: partition')}") == []


def test_everything_that_we_ship_is_clean() -> None:
    result = run(str(ROOT / "deploy"))
    assert (result.return_value, result.stdout) == (0, "")


def test_bad_configurations_are_told_in_the_words_of_the_node(tmp_path: Path) -> None:
    claim = json.dumps(yaml.safe_load(CLAIM)).encode()
    good = json.dumps(yaml.safe_load(CLAIM)["spec"]["devices"]["config"][0]["opaque"]["parameters"]).encode()
    table = [bad for bad in TABLE if bad.is_embeddable]
    file = tmp_path / "claims.json"
    items = b", ".join(claim.replace(good, bad.text) for bad in table)
    file.write_bytes(b'{"apiVersion": "v1", "kind": "List", "items": [' + items + b"]}")
    reports = [each.finding for each in lint.lint(lint.sort(read(str(file))), "gpu.accel-dra.dev")]
    for index, bad in enumerate(table):
        said = [str(each) for each in reports if each.path.startswith(f"items[{index}].") and not each.is_warning]
        assert said == [str(fault) for fault in find_faults(bad, f"items[{index}].{PARAMETERS}")], bad.name


def find_faults(bad: Bad, path: str) -> tuple[InvalidInput, ...]:
    with pytest.raises(InvalidInput) as caught:
        documents.read(bad.text)
    return fields.split(fields.put(caught.value, path))


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
DOCUMENTS = st.fixed_dictionaries(
    {},
    optional={
        "apiVersion": st.sampled_from(["resource.k8s.io/v1", "resource.k8s.io/v1beta1"]) | VALUES,
        "kind": st.sampled_from(["ResourceClaim", "ResourceClaimTemplate", "DeviceClass", "ResourceSlice"]) | VALUES,
        "metadata": VALUES,
        "spec": st.fixed_dictionaries(
            {}, optional={"devices": st.fixed_dictionaries({}, optional={"requests": VALUES, "config": VALUES})}
        )
        | VALUES,
    },
)


@settings(deadline=None, max_examples=60)
@given(DOCUMENTS)
def test_any_document_is_answered(document: dict[str, Any]) -> None:
    result = run("-o", "json", "-", text=json.dumps(document))
    assert result.return_value in (0, 1)
    assert isinstance(json.loads(result.stdout)["findings"], list)
