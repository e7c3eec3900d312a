"""Which strategy each resource has. Called by the registry, once a resource."""

from __future__ import annotations

from typing import Final

from driver.simulation.apiserver.kinds import Resource
from driver.simulation.apiserver.strategies.base import Strategy, World
from driver.simulation.apiserver.strategies.claims import ClaimStrategy
from driver.simulation.apiserver.strategies.classes import ClassStrategy, TemplateStrategy
from driver.simulation.apiserver.strategies.controlled import BudgetStrategy, DaemonSetStrategy, DeploymentStrategy
from driver.simulation.apiserver.strategies.events import EventStrategy
from driver.simulation.apiserver.strategies.pods import PodStrategy
from driver.simulation.apiserver.strategies.slices import SliceStrategy
from driver.simulation.apiserver.strategies.small import (
    BindingStrategy,
    LeaseStrategy,
    NamespaceStrategy,
    NodeStrategy,
    PolicyBindingStrategy,
    PolicyStrategy,
    RoleStrategy,
    SecretStrategy,
)

_STRATEGIES: Final[dict[str, type[Strategy]]] = {
    "clusterrolebindings": BindingStrategy,
    "clusterroles": RoleStrategy,
    "daemonsets": DaemonSetStrategy,
    "deployments": DeploymentStrategy,
    "deviceclasses": ClassStrategy,
    "events": EventStrategy,
    "leases": LeaseStrategy,
    "namespaces": NamespaceStrategy,
    "nodes": NodeStrategy,
    "poddisruptionbudgets": BudgetStrategy,
    "pods": PodStrategy,
    "resourceclaims": ClaimStrategy,
    "resourceclaimtemplates": TemplateStrategy,
    "resourceslices": SliceStrategy,
    "rolebindings": BindingStrategy,
    "roles": RoleStrategy,
    "secrets": SecretStrategy,
    "validatingadmissionpolicies": PolicyStrategy,
    "validatingadmissionpolicybindings": PolicyBindingStrategy,
}


def strategy_of(resource: Resource, world: World) -> Strategy:
    """The strategy of a resource."""
    return _STRATEGIES.get(resource.plural, Strategy)(resource, world)


__all__ = ["Strategy", "World", "strategy_of"]
