"""The image is small and harmless: two stages, no build tools and no root in the one that ships."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Final

import pytest

from driver import __version__

ROOT: Final = Path(__file__).resolve().parents[2]
Instruction = tuple[str, str]


def instructions() -> list[Instruction]:
    """Return (INSTRUCTION, arguments) with continued lines joined and comments left out."""
    lines = [line for line in (ROOT / "Dockerfile").read_text().splitlines() if not line.startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    return [(line.split()[0], line.partition(" ")[2].strip()) for line in joined.splitlines() if line.strip()]


def stages() -> list[list[Instruction]]:
    """Return the instructions of each stage, FROM first."""
    found: list[list[Instruction]] = []
    for word, arguments in instructions():
        if word == "FROM":
            found.append([])
        if found:
            found[-1].append((word, arguments))
    return found


def final(word: str) -> list[str]:
    """Return the arguments of an instruction in the stage that ships."""
    return [arguments for name, arguments in stages()[-1] if name == word]


def test_the_base_image_is_an_argument_without_a_registry() -> None:
    assert instructions()[0] == ("ARG", "PYTHON_IMAGE=python:3.13-slim")
    assert [stage[0] for stage in stages()] == [("FROM", "${PYTHON_IMAGE} AS build"), ("FROM", "${PYTHON_IMAGE}")]


def test_the_python_of_the_image_is_supported() -> None:
    classifiers = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["classifiers"]
    version = re.search(r"python:([0-9.]+)-slim", instructions()[0][1])
    assert version
    assert f"Programming Language :: Python :: {version[1]}" in classifiers


def test_nothing_is_fetched_from_addresses() -> None:
    assert not [arguments for word, arguments in instructions() if word == "ADD"]
    for _, arguments in instructions():
        assert not re.search(r"https?://|\bcurl\b|\bwget\b|\bgit\b", arguments)


def test_only_the_environment_is_copied_into_the_stage_that_ships() -> None:
    assert final("COPY") == ["--from=build /venv /venv"]


def test_no_build_tools_and_no_installer_in_the_stage_that_ships() -> None:
    for arguments in final("RUN"):
        assert not re.search(r"\b(apt|apt-get|apk|gcc|g\+\+|make|build-essential|python3?-dev)\b", arguments)
        assert not re.search(r"pip\S* (install|wheel)", arguments)
    assert any("pip uninstall" in arguments for arguments in final("RUN"))
    for arguments in [text for word, text in stages()[0] if word == "RUN"]:
        assert "--only-binary :all:" in arguments, "a missing wheel must be an error, not a compiler run"


def test_versions_are_pinned_and_extras_stay_out() -> None:
    (build,) = [text for word, text in stages()[0] if word == "RUN"]
    assert build.count("-c hack/constraints.txt") == 2
    assert "[demo]" not in build
    assert "[dev]" not in build


def test_the_image_does_not_run_as_root() -> None:
    assert final("USER") == ["65532:65532"], "numeric, so that runAsNonRoot can be checked by the kubelet"
    assert stages()[-1].index(("USER", "65532:65532")) > max(
        index for index, (word, _) in enumerate(stages()[-1]) if word in {"RUN", "COPY"}
    )


def test_the_entry_point_is_the_command() -> None:
    assert final("ENTRYPOINT") == ['["accel-dra"]']
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert "accel-dra" in scripts


def test_labels_say_what_it_is() -> None:
    labels = dict(re.findall(r'org\.opencontainers\.image\.(\w+)="([^"]*)"', " ".join(final("LABEL"))))
    assert set(labels) >= {"title", "description", "version", "revision", "licenses"}
    assert labels["licenses"] == "Apache-2.0"
    assert f"VERSION={__version__}" in final("ARG")


@pytest.mark.parametrize("name", ["driver", "deploy", "hack/constraints.txt", "pyproject.toml", "README.md", "LICENSE"])
def test_the_build_context_holds_what_the_build_copies(name: str) -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in ignored
    assert f"!{name}" in ignored
    assert (ROOT / name).exists()


def test_all_that_the_wheel_contains_is_copied_into_the_build() -> None:
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    copied = {source for word, text in stages()[0] if word == "COPY" for source in text.split()[:-1]}
    for name in [*wheel["packages"], *wheel.get("force-include", {})]:
        assert any(name == source or name.startswith(f"{source}/") for source in copied), name


def test_what_is_copied_exists() -> None:
    for word, arguments in stages()[0]:
        if word == "COPY":
            for source in arguments.split()[:-1]:
                assert (ROOT / source).exists(), source
