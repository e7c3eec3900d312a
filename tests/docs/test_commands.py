"""Every command in the documents works. The tag behind the language of a block says how that is tested:

`script` a script of the repository · `shell` run as it is · `fork` run in a copy of the code · `cluster` run by kubectl
against the embedded API server · `node` needs a real node: names and options are checked · `image` builds or pushes the
image · `install` installs the package · `certificate` makes one for the webhook · a path (YAML): the file is rendered
there.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import shlex
import shutil
import ssl
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import click
import pytest
import yaml

from driver import __version__, vendors
from driver.cli.commands import cli
from driver.core import cel, inventory
from driver.settings import ENV_PREFIX, Settings
from driver.simulation.apiserver import ApiServer
from driver.webhook.certificates import Certificates
from tests.docs.blocks import DOCUMENTS, ROOT, Block, read_blocks, split
from tests.fakes import kustomize

BLOCKS: Final = [block for document in DOCUMENTS for block in read_blocks(document)]
TAGS: Final = {
    "console": {"script", "shell", "fork", "cluster", "node", "image", "install", "certificate"},
    "yaml": {"cluster", "deploy/overlays/mine/kustomization.yaml"},
}
KUBECTL: Final = shutil.which("kubectl")


def tagged(language: str, tag: str) -> list[Block]:
    return [block for block in BLOCKS if (block.language, block.tag) == (language, tag)]


def run(command: str, folder: Path, code: Path = ROOT, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command line; `accel-dra` is this interpreter with the code below `code`."""
    ours = f"{shlex.quote(sys.executable)} -m driver "
    paths = os.pathsep.join(filter(None, (str(code), os.environ.get("PYTHONPATH", ""))))
    return subprocess.run(
        ["bash", "-c", re.sub(r"^accel-dra ", lambda _: ours, command)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": paths, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_every_block_says_how_it_is_tested(block: Block) -> None:
    if block.language == "mermaid":
        return  # a picture that hack/docs writes from the code (test_tables)
    assert block.language in {"console", "yaml", "json"}, "scripts are shown as console blocks, with their prompts"
    if block.language == "console":
        assert block.commands
    if block.tag or block.language == "console":
        assert block.tag in TAGS[block.language]


@pytest.mark.parametrize("block", tagged("console", "script"), ids=str)
def test_scripts_exist_and_parse(block: Block) -> None:
    for command in block.commands:
        script = ROOT / split(command)[0]
        assert os.access(script, os.X_OK), script
        if script.read_text().startswith("#!/usr/bin/env bash"):
            subprocess.run(["bash", "-n", str(script)], check=True)


def test_a_certificate_made_as_documented_is_served_and_trusted(tmp_path: Path) -> None:
    """What goes to kubectl is looked at: patches have to fit the configuration that is installed."""
    shutil.copytree(ROOT / "deploy" / "components" / "webhook", tmp_path / "webhook")
    (installed,) = (
        item for item in kustomize.render(tmp_path / "webhook") if item["kind"] == "ValidatingWebhookConfiguration"
    )
    patched: list[str] = []
    for block in tagged("console", "certificate"):
        for command in block.commands:
            if command.startswith("openssl "):
                subprocess.run(["bash", "-c", command], check=True, cwd=tmp_path, capture_output=True, timeout=50)
            elif " patch " in command:
                done = run(f"printf %s {command.partition(' -p ')[2]}", tmp_path)
                (change,) = json.loads(done.stdout)
                value: Any = installed
                *parents, last = [part for part in change["path"].split("/") if part]
                for part in parents:
                    value = value[int(part)] if part.isdigit() else value[part]
                assert (change["op"] == "add") is (last not in value)
                patched.append(str(change["value"]))
            else:
                assert "create secret tls accel-dra-webhook --cert=tls.crt --key=tls.key" in command
    assert patched[0] == base64.b64encode((tmp_path / "tls.crt").read_bytes()).decode()
    assert patched[1] == "Fail"
    pair = Certificates(str(tmp_path / "tls.crt"), str(tmp_path / "tls.key"), 60.0, lambda _: None)
    trusting = ssl.create_default_context(cadata=base64.b64decode(patched[0]).decode())
    ours, theirs = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = pair.context.wrap_bio(ours, theirs, server_side=True)
    client = trusting.wrap_bio(theirs, ours, server_hostname="accel-dra-webhook.accel-dra.svc")
    for side in (client, server, client, server):
        with contextlib.suppress(ssl.SSLWantReadError):
            side.do_handshake()
    assert client.getpeercert()


@pytest.mark.parametrize("block", tagged("console", "shell"), ids=str)
def test_shell_commands_run(block: Block, tmp_path: Path) -> None:
    printed: set[str] = set()
    for command in block.commands:
        done = run(command, tmp_path, COLUMNS="120")
        printed.update(line.rstrip() for line in done.stdout.splitlines())
        # On a machine without a kubelet the doctor finds what is missing: exit code 1 is its right answer.
        assert done.returncode in ({0, 1} if " doctor" in command else {0}), (command, done.stderr)
        assert done.stdout
        assert "Traceback" not in done.stderr
    assert set(block.output) <= printed, "the output that is shown is that of the command"


@pytest.mark.parametrize("block", tagged("console", "fork"), ids=str)
def test_fork_commands_run_in_a_copy_of_the_code(block: Block, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "driver", tmp_path / "driver", ignore=shutil.ignore_patterns("__pycache__"))
    for command in block.commands:
        done = run(command, tmp_path, tmp_path)
        assert done.returncode in ({0, 1} if " doctor" in command else {0}), (command, done.stderr)
        assert done.stdout or command.startswith("cp ")
    assert "acme" in done.stdout


@pytest.mark.parametrize("block", tagged("console", "node"), ids=str)
def test_node_commands_name_what_exists(block: Block) -> None:
    installed = {kustomize.identity(item) for item in kustomize.render(ROOT / "deploy" / "base")}
    for command in block.commands:
        words = split(command)
        if words[0] == "kubectl":
            assert words[1:3] == ["-n", "accel-dra"]
            kinds = {"daemonset": "DaemonSet", "deployment": "Deployment"}
            kind, _, name = next(word for word in words if "/" in word).partition("/")
            assert (kinds[kind], name) in installed
            if words[3:5] == ["set", "env"]:
                check_variables(words[6:])
            words = words[words.index("--") + 1 :] if "--" in words else []
        if words:
            parse_our_command(words)


def check_variables(assignments: list[str]) -> None:
    """Have click read variables of the plugin's DaemonSet as options. Raises for an unknown name or a wrong value."""
    words = ["accel-dra", "plugin"]
    for assignment in assignments:
        variable, _, value = assignment.partition("=")
        assert variable.startswith(ENV_PREFIX)
        words.append(f"--{variable.removeprefix(ENV_PREFIX).lower().replace('_', '-')}={value}")
    parse_our_command(words)


def parse_our_command(words: list[str]) -> None:
    """Have click read a command line of ours, without running it. Raises for an unknown command or option."""
    assert words[0] == "accel-dra"
    context = click.Context(cli, info_name="accel-dra")
    command = cli.get_command(context, words[1])
    assert command is not None, words
    command.make_context(words[1], words[2:], parent=context)


@pytest.mark.parametrize("block", tagged("console", "image"), ids=str)
def test_image_commands_use_the_version_of_the_manifests(block: Block) -> None:
    for command in block.commands:
        words = split(command)
        assert words[0] == "docker"
        assert words[1] in {"build", "push"}
        assert any(word.endswith(f"accel-dra:{__version__}") for word in words)
        if words[1] == "build":
            assert (ROOT / words[-1] / "Dockerfile").is_file()


@pytest.mark.parametrize("block", tagged("console", "install"), ids=str)
def test_installation_gives_the_command(block: Block) -> None:
    assert block.commands == ["pip install ."]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["scripts"]["accel-dra"] == "driver.__main__:main"


@pytest.mark.parametrize("block", [block for block in BLOCKS if "/" in block.tag], ids=str)
def test_kustomizations_render_where_they_are_said_to_be(block: Block, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "deploy", tmp_path / "deploy")
    path = tmp_path / block.tag
    path.parent.mkdir(parents=True)
    path.write_text(block.text)
    objects = {kustomize.identity(item): item for item in kustomize.render(path.parent)}
    (image,) = yaml.safe_load(block.text)["images"]
    assert f"{image['newName']}:{image['newTag']}" in str(objects["DaemonSet", "accel-dra-node"])


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ApiServer, Path]]:
    with ApiServer() as server:
        yield server, server.kubeconfig(tmp_path_factory.mktemp("kube") / "config")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_cluster_commands_run_in_their_order(document: Path, cluster: tuple[ApiServer, Path]) -> None:
    """With kubectl they run for real; without it, what they read is looked at."""
    for block in read_blocks(document):
        if block.tag != "cluster":
            continue
        commands = block.commands if block.language == "console" else [f"kubectl apply -f - <<'EOF'\n{block.text}\nEOF"]
        for command in commands:
            assert command.startswith("kubectl "), f"{block}: {command}"
            if KUBECTL:
                done = run(command, ROOT, KUBECONFIG=str(cluster[1]))
                assert done.returncode == 0, (str(block), command, done.stderr)
            elif " -k " in command:
                assert kustomize.render(ROOT / split(command)[-1])


@pytest.mark.parametrize("block", tagged("yaml", "cluster"), ids=str)
def test_claims_in_documents_can_be_satisfied(block: Block) -> None:
    """Every selector is valid CEL and true for some simulated device; every class is one that is installed."""
    classes = {name for kind, name in map(kustomize.identity, kustomize.render(ROOT / "deploy" / "base")) if kind}
    options = Settings()
    devices = [
        cel.view(options.driver_name, entry.device)
        for node in ("hgx-h100", "a100-mesh", "t4")
        for entry in inventory.build(vendors.load("simulated", options.roots, {"node": node}).snapshot()).entries
    ]
    requests = [request for item in yaml.safe_load_all(block.text) for request in find_requests(item)]
    assert requests
    for request in requests:
        assert request["deviceClassName"] in classes
        for selector in request.get("selectors", []):
            program = cel.compile_selector(selector["cel"]["expression"])
            assert any(cel.matches(program, device) for device in devices)


def find_requests(item: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the exact requests of a claim or a template."""
    spec = item["spec"]["spec"] if item["kind"] == "ResourceClaimTemplate" else item["spec"]
    return [request["exactly"] for request in spec.get("devices", {}).get("requests", [])]
