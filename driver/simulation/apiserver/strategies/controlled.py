"""Kinds that a controller of Kubernetes would act on, and here are only stored: DaemonSets, Deployments, budgets."""

from __future__ import annotations

from driver.simulation.apiserver.checking import Faults, invalid, required, unsupported
from driver.simulation.apiserver.strategies.base import Strategy
from driver.simulation.apiserver.strategies.pod_defaults import default_pod_spec
from driver.simulation.apiserver.tidying import same
from driver.simulation.apiserver.values import JsonObject, items, obj


class DaemonSetStrategy(Strategy):
    """DaemonSets are stored; nobody starts their pods."""

    def default(self, value: JsonObject) -> None:
        """Rolling update, one unavailable, ten revisions, and the template's pod defaults."""
        spec = obj(value.get("spec"))
        strategy = obj(spec.setdefault("updateStrategy", {}))
        if not strategy.get("type"):
            strategy["type"] = "RollingUpdate"
        if strategy["type"] == "RollingUpdate":
            rolling = obj(strategy.setdefault("rollingUpdate", {}))
            rolling.setdefault("maxUnavailable", 1)
            rolling.setdefault("maxSurge", 0)
        spec.setdefault("revisionHistoryLimit", 10)
        _default_template(spec)

    def validate(self, new: JsonObject, old: JsonObject | None, subresource: str) -> Faults:
        """The selector selects the template and never changes."""
        del subresource
        return _check_template(new, old)


class DeploymentStrategy(Strategy):
    """Deployments are stored; nobody starts their pods."""

    def default(self, value: JsonObject) -> None:
        """One replica, rolling update by quarters, ten revisions, ten minutes, and the template's pod defaults."""
        spec = obj(value.get("spec"))
        spec.setdefault("replicas", 1)
        strategy = obj(spec.setdefault("strategy", {}))
        if not strategy.get("type"):
            strategy["type"] = "RollingUpdate"
        if strategy["type"] == "RollingUpdate":
            rolling = obj(strategy.setdefault("rollingUpdate", {}))
            rolling.setdefault("maxUnavailable", "25%")
            rolling.setdefault("maxSurge", "25%")
        spec.setdefault("revisionHistoryLimit", 10)
        spec.setdefault("progressDeadlineSeconds", 600)
        _default_template(spec)

    def validate(self, new: JsonObject, old: JsonObject | None, subresource: str) -> Faults:
        """The selector selects the template and never changes; a rolling update can make a step."""
        del subresource
        faults = _check_template(new, old)
        spec = obj(new.get("spec"))
        strategy = obj(spec.get("strategy"))
        rolling = strategy.get("rollingUpdate")
        if strategy.get("type") not in {"RollingUpdate", "Recreate"}:
            faults.append(unsupported("spec.strategy.type", strategy.get("type"), ("Recreate", "RollingUpdate")))
        elif strategy["type"] == "Recreate" and rolling:
            why = "may not be specified when strategy `type` is 'Recreate'"
            faults.append(invalid("spec.strategy.rollingUpdate", rolling, why))
        elif all(obj(rolling).get(name) in {0, "0%"} for name in ("maxUnavailable", "maxSurge")):
            why = "may not be 0 when `maxSurge` is 0"
            faults.append(invalid("spec.strategy.rollingUpdate.maxUnavailable", 0, why))
        return faults


class BudgetStrategy(Strategy):
    """PodDisruptionBudgets are stored; nobody evicts."""

    def validate(self, new: JsonObject, old: JsonObject | None, subresource: str) -> Faults:
        """One of two limits."""
        del old, subresource
        spec = obj(new.get("spec"))
        if spec.get("minAvailable") is not None and spec.get("maxUnavailable") is not None:
            return [invalid("spec", spec, "minAvailable and maxUnavailable cannot be both set")]
        return []


def _default_template(spec: JsonObject) -> None:
    template = obj(obj(spec.get("template")).setdefault("spec", {}))
    default_pod_spec(template)
    if template.get("serviceAccountName"):
        template["serviceAccount"] = template["serviceAccountName"]


def _check_template(new: JsonObject, old: JsonObject | None) -> Faults:
    spec = obj(new.get("spec"))
    labels = obj(obj(obj(spec.get("template")).get("metadata")).get("labels"))
    wanted = obj(obj(spec.get("selector")).get("matchLabels"))
    faults: Faults = []
    if spec.get("selector") is None:
        faults.append(required("spec.selector"))
    elif any(labels.get(key) != value for key, value in wanted.items()):
        why = "`selector` does not match template `labels`"
        faults.append(invalid("spec.template.metadata.labels", labels, why))
    if not items(obj(obj(spec.get("template")).get("spec")).get("containers")):
        faults.append(required("spec.template.spec.containers"))
    if old is not None and not same("LabelSelector", spec.get("selector"), obj(old.get("spec")).get("selector")):
        faults.append(invalid("spec.selector", spec.get("selector"), "field is immutable"))
    return faults
