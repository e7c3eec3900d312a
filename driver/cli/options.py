"""Command-line options made from settings classes, so that flags, environment and documentation cannot drift."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, Final, TypeVar

import click

from driver import settings as settings_module
from driver.settings import Settings

R = TypeVar("R")
S = TypeVar("S")

FIELDS: Final = {field.name: field for field in dataclasses.fields(Settings)}


def settings_options(*names: str) -> Callable[[Callable[..., R]], Callable[..., R]]:
    """Give a command the options of these plugin settings (none named: all) and a first argument `settings`.

    The settings are checked before the command runs; a wrong one raises `InvalidInput`, which ends with exit code 2.
    """
    return options_of(Settings, settings_module.check, *names)


def options_of(kind: type[S], check: Callable[[S], S], *names: str) -> Callable[[Callable[..., R]], Callable[..., R]]:
    """Do what `settings_options` does for any settings class, with the function that checks it."""
    fields: dict[str, dataclasses.Field[Any]] = {
        field.name: field
        for field in dataclasses.fields(kind)  # type: ignore[arg-type]  # every settings class is a dataclass
    }
    wanted = names or tuple(fields)

    def decorate(function: Callable[..., R]) -> Callable[..., R]:
        @functools.wraps(function)
        def run(**values: object) -> R:
            own = {name: values.pop(name) for name in wanted}
            return function(settings=check(kind(**own)), **values)

        command: Callable[..., R] = run
        for name in reversed(wanted):
            command = _option(fields[name])(command)
        return command

    return decorate


def _option(field: dataclasses.Field[Any]) -> Callable[[Callable[..., R]], Callable[..., R]]:
    """Return the click option of one setting."""
    name = settings_module.flag(field)
    allowed = field.metadata["allowed"]
    default = field.default
    declaration = f"--{name}/--no-{name}" if isinstance(default, bool) else f"--{name}"
    return click.option(
        declaration,
        field.name,
        default=default,
        type=click.Choice(allowed) if allowed else None,
        multiple=isinstance(default, tuple),
        envvar=settings_module.variable(field),
        show_default=bool(default),
        show_envvar=True,
        help=str(field.metadata["help"]),
    )
