"""`accel-dra demo` as a person runs it: what it prints, how it ends, and what it leaves behind (nothing)."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from driver.cli import demo_flow, demo_text
from driver.kube import access
from driver.kube.client import Client
from driver.simulation import sites
from driver.simulation.access import PODS, Objects
from tests.fakes.processes import ending
from tests.fakes.waiting import wait_until

ROOT: Final = Path(__file__).parents[2]
LIMIT: Final = 60.0
"""Seconds the demo may take (it takes two or three)."""


@pytest.fixture
def folder() -> Iterator[Path]:
    """Return a folder for all temporary files of a demo, short enough for sockets."""
    with tempfile.TemporaryDirectory(prefix="d", dir="/tmp") as name:
        yield Path(name)


def _environment(folder: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(folder), "PYTHONUNBUFFERED": "1"}


def _run(folder: Path, *arguments: str, code: str = "") -> subprocess.CompletedProcess[str]:
    start = ["-c", code] if code else ["-m", "driver"]
    return subprocess.run(
        [sys.executable, *start, "demo", *arguments],
        capture_output=True,
        text=True,
        timeout=LIMIT,
        cwd=folder,
        env=_environment(folder),
        check=False,
    )


def test_all_workloads_behave_and_the_reader_learns_why(folder: Path) -> None:
    done = _run(folder)
    assert (done.returncode, done.stderr) == (0, "")
    for example in demo_flow.SELECTION:
        assert f"({example})" in done.stdout
    assert "memory > 79Gi" in done.stdout, "selectors are shown as a person would write them"
    assert re.search(r"equal accel-dra.dev/interconnectDomain \(\S+\)", done.stdout)
    assert "/dev/simulated-gpu0" in done.stdout
    assert "no node can give request" in done.stdout
    count = len(demo_flow.SELECTION)
    assert f"{count} of {count} workloads behaved as promised" in done.stdout
    assert list(folder.iterdir()) == []


def test_one_example_can_be_chosen(folder: Path) -> None:
    done = _run(folder, "shared-gpu")
    assert done.returncode == 0
    assert "logger: nothing" in done.stdout
    assert "1 of 1 workloads" in done.stdout


def test_an_unknown_example_is_an_error_that_lists_the_known_ones(folder: Path) -> None:
    done = _run(folder, "free-lunch")
    assert done.returncode == 2
    assert "'free-lunch' is not allowed; allowed: " in done.stderr
    assert "nvlink-pair" in done.stderr


def test_a_vendor_that_does_not_exist_is_a_wrong_argument(folder: Path) -> None:
    done = _run(folder, "--vendor", "acme")
    assert done.returncode == 2
    assert done.stderr == "accel-dra: vendor: 'acme' is not allowed; allowed: nvidia or simulated\n"


def test_a_vendor_whose_plugin_does_not_start_is_reported_in_its_words(folder: Path) -> None:
    code = f"""
import sys
from driver import vendors
from driver.cli import demo_flow
sys.path.insert(0, {str(ROOT)!r})
vendors.names = lambda: ("acme",)
from driver.__main__ import main
main()
"""
    done = _run(folder, "--vendor", "acme", code=code)
    assert done.returncode == 1
    assert "'acme' is not allowed" in done.stderr, "the plugin says it, in a process of its own"
    assert "Traceback" not in done.stderr.partition("the plugin on")[0]


def test_missing_packages_are_named_with_the_way_to_get_them(folder: Path) -> None:
    code = "import sys; sys.modules['aiohttp'] = None; from driver.__main__ import main; main()"
    done = _run(folder, code=code)
    assert done.returncode == 1
    assert (
        done.stderr.strip()
        == "accel-dra: the demo needs aiohttp, which is not installed: pip install 'accel-dra[demo]'"
    )


def test_help_names_the_exit_codes(folder: Path) -> None:
    done = _run(folder, "--help")
    assert done.returncode == 0
    assert "Exit codes: 0 every workload behaved as promised" in " ".join(done.stdout.split())


class Served:
    """`accel-dra demo --serve` in a process of its own."""

    def __init__(self, folder: Path) -> None:
        self._output = folder / "output"
        with self._output.open("w") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "driver", "demo", "--serve", "single-gpu"],
                stdout=output,
                stderr=subprocess.STDOUT,
                env=_environment(folder),
            )

    def text(self) -> str:
        return self._output.read_text()

    def wait_for(self, text: str) -> str:
        deadline = time.monotonic() + LIMIT
        while text not in self.text():
            assert time.monotonic() < deadline, self.text()
            assert self.process.poll() is None, self.text()
            time.sleep(0.05)
        return self.text()

    def plugins(self) -> list[int]:
        found = []
        for path in Path("/proc").glob("[0-9]*/stat"):
            try:
                parent = int(path.read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
            if parent == self.process.pid:
                found.append(int(path.parent.name))
        return found

    def end(self, number: int) -> int:
        self.process.send_signal(number)
        return self.process.wait(LIMIT / 3)

    def close(self) -> None:
        with ending(self.process):
            if self.process.poll() is None:
                self.end(signal.SIGINT)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_serving_lasts_until_it_is_ended_and_leaves_nothing(folder: Path, number: int) -> None:
    served = Served(folder)
    try:
        text = served.wait_for("kubectl get pods -w")
        found = re.search(r"export KUBECONFIG=(\S+)", text)
        assert found is not None
        assert "kubectl -n demo describe pods\n" in text, "the pod that waits was not run"
        kubeconfig = Path(found[1])
        client = Client(access.load(str(kubeconfig), {}))
        assert Objects(client).get(PODS, "single-gpu", "demo").status.phase == "Running"
        client.close()
        plugins = served.plugins()
        assert len(plugins) == sum(len(node.drivers) for node in sites.list_nodes()) + len(["controller"])
        assert served.end(number) == 0
        assert not kubeconfig.parent.exists()
        assert not any(Path(f"/proc/{pid}").exists() for pid in plugins)
    finally:
        served.close()


def test_a_demo_that_is_interrupted_cleans_up_and_says_130(folder: Path) -> None:
    demo = subprocess.Popen(
        [sys.executable, "-m", "driver", "demo"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=_environment(folder),
    )
    with ending(demo) as process:
        wait_until(lambda: any(folder.iterdir()), "the cluster to begin")
        process.send_signal(signal.SIGINT)
        assert process.wait(LIMIT / 2) == 130
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    ("reason", "readable"),
    [
        (
            'a: 1 of class c where device.capacity["accel-dra.dev"].memory.compareTo(quantity("80Gi")) >= 0',
            "a: 1 of class c where memory >= 80Gi",
        ),
        (
            'device.capacity["accel-dra.dev"].?memory.orValue(quantity("0")).isGreaterThan(quantity("79Gi"))',
            "memory > 79Gi",
        ),
        ('device.attributes["accel-dra.dev"].?type.orValue("") == "gpu"', 'type == "gpu"'),
        ('device.capacity["d"].memory.isLessThan(quantity("1Gi"))', "memory < 1Gi"),
        ('"x" in device.attributes["d"]', '"x" in device.attributes["d"]'),
    ],
)
def test_selectors_are_shown_as_a_person_would_write_them(reason: str, readable: str) -> None:
    assert demo_text.make_readable(reason) == readable
