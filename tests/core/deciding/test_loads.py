"""What pods ask of nodes, added up as kube-scheduler does."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from driver.core.deciding.loads import Load, Loads, add_up, collapse
from driver.model.quantities import NANO
from driver.model.workloads import PodContainer, ResourceRequirements, Workload
from tests.fakes.controlled import make_pod


def container(cpu: str = "", memory: str = "", *, sidecar: bool = False) -> PodContainer:
    requests: dict[str, str | int | float] = {"cpu": cpu, "memory": memory}
    kept = {name: text for name, text in requests.items() if text}
    return PodContainer(resources=ResourceRequirements(requests=kept), restart_policy="Always" if sidecar else "")


def pod(*containers: PodContainer, init: tuple[PodContainer, ...] = (), **spec: Any) -> Workload:
    return make_pod("p", containers=containers, init_containers=init, **spec)


def cpu(workload: Workload) -> float:
    return add_up(workload).get("cpu", 0) / NANO


def test_containers_are_added() -> None:
    assert add_up(pod(container("1", "1Gi"), container("500m"))) == {"cpu": 3 * NANO // 2, "memory": 2**30 * NANO}


@pytest.mark.parametrize(
    ("main", "init", "expected"),
    [
        ("1", [("2", False)], 2),
        ("3", [("2", False)], 3),
        ("1", [("1", True)], 2),
        ("1", [("1", True), ("3", False)], 4),  # the sidecar runs beside the later init container
        ("1", [("3", False), ("1", True)], 3),
        ("1", [("1", True), ("1", True), ("1", False)], 3),
    ],
)
def test_init_containers_count_at_their_turn_and_sidecars_always(
    main: str, init: list[tuple[str, bool]], expected: int
) -> None:
    assert cpu(pod(container(main), init=tuple(container(text, sidecar=each) for text, each in init))) == expected


def test_what_the_pod_as_a_whole_asks_for_replaces_the_sum_and_overhead_is_added() -> None:
    whole = ResourceRequirements(requests={"cpu": "5"})
    asked = add_up(pod(container("1", "1Gi"), resources=whole, overhead={"cpu": "250m"}))
    assert asked == {"cpu": 21 * NANO // 4, "memory": 2**30 * NANO}


def test_numbers_of_yaml_are_read() -> None:
    text: dict[str, str | int | float] = {"cpu": 2, "memory": 1.5}
    asked = add_up(pod(PodContainer(resources=ResourceRequirements(requests=text))))
    assert asked == {"cpu": 2 * NANO, "memory": 3 * NANO // 2}


def test_a_collapsed_pod_asks_for_the_same() -> None:
    whole = pod(container("1", "3Gi"), init=(container("1250m", sidecar=True),), overhead={"memory": "1Mi"})
    small = msgspec.structs.replace(
        whole, spec=msgspec.structs.replace(whole.spec, containers=collapse(whole), init_containers=(), overhead={})
    )
    assert add_up(small) == add_up(whole)
    assert collapse(pod()) == ()


def test_loads_follow_pods() -> None:
    loads = Loads()
    loads.put(make_pod("a", node="n", requests={"cpu": "1"}))
    loads.put(make_pod("b", node="n", requests={"cpu": "2"}))
    loads.put(make_pod("waiting", requests={"cpu": "4"}))
    assert loads.view() == {"n": Load({"cpu": 3 * NANO}, 2)}
    loads.put(make_pod("a", node="n", requests={"cpu": "1"}, phase="Succeeded"))
    assert loads.view() == {"n": Load({"cpu": 2 * NANO}, 1)}
    loads.remove(make_pod("b"))
    loads.remove(make_pod("unknown"))
    assert loads.view() == {}


def test_the_same_pod_is_counted_once() -> None:
    loads = Loads()
    for _ in range(3):
        loads.put(make_pod("a", node="n", requests={"cpu": "1"}))
    assert loads.view()["n"].pods == 1


def test_a_view_does_not_change() -> None:
    loads = Loads()
    loads.put(make_pod("a", node="n"))
    view = loads.view()
    loads.put(make_pod("b", node="n"))
    assert view["n"].pods == 1
