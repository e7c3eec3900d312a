"""Hardware, one folder a vendor. Vendors are strangers to each other and are loaded by name: nobody imports one."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping

from driver.contract import Create, Daemon, Roots, Runner, Vendor
from driver.model.errors import DriverError, InvalidInput, Unsupported


class NoRunner:
    """Stands where no daemon may be started: in commands that only look at the hardware."""

    def start(self, daemon: Daemon) -> None:
        """Refuse."""
        raise Unsupported(f"daemon {daemon.name}: only the node plugin runs daemons")

    def stop(self, name: str, end: Callable[[], None] | None = None) -> None:  # noqa: ARG002 - it is not asked
        """Refuse."""
        raise Unsupported(f"daemon {name}: only the node plugin runs daemons")


def names() -> tuple[str, ...]:
    """Return the vendors that this installation contains, sorted."""
    return tuple(sorted(module.name for module in pkgutil.iter_modules(__path__) if module.ispkg))


def load(name: str, roots: Roots, options: Mapping[str, str], runner: Runner | None = None) -> Vendor:
    """Import `driver.vendors.<name>` and create its vendor; without `runner` it cannot start daemons.

    Raises `DriverError`; `InvalidInput` for an unknown name or option.
    """
    if name not in names():
        raise InvalidInput("vendor", name, " or ".join(names()))
    try:
        create: Create = importlib.import_module(f"{__name__}.{name}").create
    except Exception as error:
        allowed = f"a vendor whose folder can be imported and has create(); this one: {describe(error)}"
        raise InvalidInput("vendor", name, allowed) from error
    try:
        return create(roots, options, runner or NoRunner())
    except DriverError:
        raise
    except Exception as error:
        raise DriverError(f"the vendor {name} cannot be used, it is broken: {describe(error)}") from error


def describe(error: Exception) -> str:
    """Return a defect in one line: what Python calls it, and what it says."""
    return f"{type(error).__name__}: {error}"
