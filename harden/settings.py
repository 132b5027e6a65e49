"""The server's settings on the command line: flags first, then the environment, then defaults.

One table (:data:`SETTINGS`) feeds argparse, ``harden check`` and
:class:`harden.config_validator.ConfigValidator`, so that a name, a default and a unit are
written once.
"""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any

from harden.setting_table import SETTINGS
from harden.setting_types import Setting, parse_boolean, parse_duration, parse_size

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

__all__ = [
    "SETTINGS",
    "Setting",
    "add_arguments",
    "parse_boolean",
    "parse_duration",
    "parse_size",
    "readable_environment",
    "worker_arguments",
]

_SET_BY_THE_CALLER = {"--host", "--port", "--model"}


class _FromEnvironment(str):
    """A default that came from an environment variable, so that a complaint can name it."""

    __slots__ = ("variable",)
    variable: str


class _Switch(argparse.Action):
    """A flag without a value, whose default may come from the environment."""

    def __init__(self, **options: Any) -> None:
        super().__init__(nargs=0, **options)

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        del parser, values
        setattr(namespace, self.dest, not (option_string or "").startswith("--no-"))


def add_arguments(parser: argparse.ArgumentParser, environment: Mapping[str, str]) -> None:
    """Give a parser every setting that has a flag, grouped.

    Args:
        parser: the parser of a command. Values that cannot be are its usage errors (exit 2).
        environment: where a setting's variable is looked up when its flag is absent; a blank
            value counts as none.
    """
    groups: dict[str, Any] = {}
    for setting in SETTINGS:
        if setting.flag:
            group = groups.get(setting.group) or parser.add_argument_group(setting.group)
            groups[setting.group] = group
            group.add_argument(*_spellings(setting), **_options(setting, environment))
    _describe_environment(parser)


def readable_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Keep what parses of the environment, for a caller that reports the rest by itself."""
    readable = dict(environment)
    for setting in SETTINGS:
        if setting.environment in readable:
            try:
                setting.read(readable[setting.environment])
            except ValueError:
                del readable[setting.environment]
    return readable


def worker_arguments(namespace: argparse.Namespace) -> list[str]:
    """List the upstream flags that a worker process needs beside host, port and model.

    Args:
        namespace: what a parser with :func:`add_arguments` returned.

    Returns:
        ``--flag=value`` for each upstream setting that is not at its default.
    """
    arguments = []
    for setting in SETTINGS:
        if not setting.upstream or setting.flag in _SET_BY_THE_CALLER or not setting.flag:
            continue
        value = getattr(namespace, setting.name)
        if value != setting.default_value:
            arguments.append(
                setting.flag if setting.switch else f"{setting.flag}={_as_text(value)}"
            )
    return arguments


def _spellings(setting: Setting) -> list[str]:
    flag = str(setting.flag)
    # What the environment switched on must be possible to switch off.
    return [flag, f"--no-{flag[2:]}"] if setting.switch and setting.environment else [flag]


def _options(setting: Setting, environment: Mapping[str, str]) -> dict[str, Any]:
    options: dict[str, Any] = {
        "dest": setting.name,
        "type": _type(setting),
        "default": _default(setting, environment),
        "help": _help(setting).replace("%", "%%"),
    }
    if setting.switch:
        return options | {"action": _Switch}
    if setting.choices:
        return options | {"metavar": "{" + ",".join(setting.choices) + "}"}
    return options | {"metavar": setting.unit.upper() or None}


def _type(setting: Setting) -> Callable[[str], Any]:
    def parse(text: str) -> Any:
        try:
            return setting.read(text)
        except ValueError as error:
            source = f"{text.variable}: " if isinstance(text, _FromEnvironment) else ""
            raise argparse.ArgumentTypeError(f"{source}{error}") from None

    return parse


def _default(setting: Setting, environment: Mapping[str, str]) -> Any:
    text = environment.get(setting.environment, "") if setting.environment else ""
    if not text.strip():
        return setting.default
    default = _FromEnvironment(text)
    default.variable = str(setting.environment)
    return default


def _help(setting: Setting) -> str:
    if setting.switch:
        notes = []
    elif setting.default in (None, ""):
        notes = ["default: none"]
    else:
        notes = [f"default: {setting.default}"]
    if setting.unit:
        notes.insert(0, setting.unit)
    if setting.environment:
        notes.append(f"environment: {setting.environment}")
    return f"{setting.help} ({'; '.join(notes)})" if notes else setting.help


def _describe_environment(parser: argparse.ArgumentParser) -> None:
    lines = [f"{s.environment}: {s.help}" for s in SETTINGS if not s.flag]
    parser.add_argument_group("environment only", description="; ".join(lines))


def _as_text(value: Any) -> str:
    if isinstance(value, list):
        return ",".join(value)
    if isinstance(value, dict):
        return json.dumps(value)
    return str(value)
