"""Checks settings before anything is started on them: raw values in, facts or own errors out.

:class:`ConfigValidator` judges one value at a time and raises, or a whole environment at once and
raises nothing, so that an operator sees every problem in one go. ``harden check`` prints them.
"""

from __future__ import annotations

import os
import re
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harden.dependencies import REQUIREMENTS, find_unmet, import_version, is_older
from harden.exceptions import DependencyError, ValidationError
from harden.model_files import check_model_folder
from harden.model_path import look_into, names_a_folder, shown
from harden.setting_types import between, parse_boolean
from harden.settings import SETTINGS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from harden.config_results import (
        CompleteResult,
        DependenciesResult,
        DependencyResult,
        FreePort,
        ModelPathResult,
        PortResult,
        PortUse,
        VariableResult,
        VariableType,
    )
    from harden.setting_types import Setting

__all__ = ["ConfigValidator", "DependencyError", "ValidationError"]

_LAST_PORT = 65535
_FIRST_ORDINARY_PORT = 1024
_SECRET_NAME = re.compile(r"KEY|TOKEN|SECRET|PASSWORD", re.IGNORECASE)


class ConfigValidator:
    """Validates ports, environment variables, model folders and packages.

    Args:
        environment: the variables to read; ``os.environ`` at the time of each call if None.
        connect_timeout_s: how long a port may take to answer.
    """

    def __init__(
        self, environment: Mapping[str, str] | None = None, *, connect_timeout_s: float = 1.0
    ) -> None:
        """Remember where to read from."""
        self._given_environment = environment
        self._connect_timeout_s = connect_timeout_s

    def validate_port(self, port: object) -> PortResult:
        """Check a TCP port given as a number or as text.

        Raises:
            ValidationError: not a whole number from 1 to 65535.
        """
        number = _port_number(port)
        result: PortResult = {"valid": True, "port": number}
        if number < _FIRST_ORDINARY_PORT:
            result["warning"] = (
                f"port {number} is privileged (below {_FIRST_ORDINARY_PORT}): "
                "only an administrator may listen on it"
            )
        return result

    def validate_env_var(
        self,
        name: str,
        required: bool = False,
        var_type: VariableType = "str",
        min_value: int | None = None,
        max_value: int | None = None,
        *,
        default: Any = None,
    ) -> VariableResult:
        """Read one environment variable; a blank one counts as missing.

        Args:
            name: of the variable.
            required: a missing one is an error.
            var_type: "str", "int" or "bool".
            min_value: lowest "int" allowed.
            max_value: highest "int" allowed.
            default: what a missing one that is not required amounts to.

        Raises:
            ValidationError: missing though required, or not of this type or range.
        """
        text = self._variable(name)
        if not text.strip():
            if required:
                raise ValidationError(
                    f"the environment variable {shown(name)} is not set; "
                    f"set it, for example: export {shown(name)}=…",
                    setting=name,
                    fix=f"Set {shown(name)}.",
                )
            return {"valid": True, "default": default}
        return {"valid": True, "value": _typed(name, text, var_type, min_value, max_value)}

    def validate_model_path(self, path: object) -> ModelPathResult:
        """Look into a model folder.

        Returns:
            What the folder holds; ``valid`` is False if its tokenizer or its weights are missing.

        Raises:
            ValidationError: it does not exist, is no folder, cannot be read or has no config.json.
        """
        return look_into(path)

    def check_port_available(self, port: object, host: str = "127.0.0.1") -> PortUse:
        """Find out by a connection attempt whether somebody listens on a port.

        Raises:
            ValidationError: not a port.
        """
        number = _port_number(port)
        connection = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            connection.settimeout(self._connect_timeout_s)
            answered = connection.connect_ex((host, number)) == 0
        except (OSError, UnicodeError):
            # Nobody answered in time, or nobody can be asked: nothing listens here.
            answered = False
        finally:
            connection.close()
        return {"available": False, "in_use": True} if answered else {"available": True}

    def find_available_port(self, lowest: object, highest: object) -> FreePort:
        """Return the first port of a range, both ends included, on which nobody listens.

        Raises:
            ValidationError: an end is not a port, or they are the wrong way round.
        """
        first, last = _port_number(lowest), _port_number(highest)
        if first > last:
            raise ValidationError(
                f"the range of ports {first} to {last} is empty; give the lower one first",
                setting="port",
                value=(first, last),
                fix="Give the lower port first.",
            )
        for port in range(first, last + 1):
            if self.check_port_available(port)["available"]:
                return {"found": True, "port": port}
        return {"found": False}

    def check_dependency(self, module: str, min_version: str | None = None) -> DependencyResult:
        """Import a package and look at its version.

        Returns:
            ``version`` is "unknown" where the package states none, None where it is missing.

        Raises:
            DependencyError: it is older than ``min_version``, or that is no version.
        """
        version = import_version(module)
        if version is None:
            return {"installed": False, "version": None, "version_ok": False}
        if version == "unknown" or min_version is None:
            return {"installed": True, "version": version, "version_ok": min_version is None}
        if is_older(version, min_version):
            raise DependencyError(
                f"{module} {version} is too old, {min_version} is needed; "
                f"run: pip install --upgrade '{module}>={min_version}'",
                module=module,
                installed=version,
                required=min_version,
            )
        return {"installed": True, "version": version, "version_ok": True}

    def check_all_dependencies(self, modules: Iterable[str]) -> DependenciesResult:
        """Try to import several packages."""
        missing = [m for m in modules if not self.check_dependency(m)["installed"]]
        return {"all_installed": not missing, "missing": missing}

    def validate_complete_config(self) -> CompleteResult:
        """Check everything that the environment sets, and the packages that serving needs.

        Every problem is collected, none is raised. Packages are looked up, not imported.
        """
        values: dict[str, Any] = {}
        errors: list[str] = []
        for setting in SETTINGS:
            if setting.environment:
                try:
                    values[setting.environment] = self._setting_value(setting)
                except ValidationError as error:
                    errors.append(str(error))
        errors += _model_errors(values.get("MLX_MODEL", ""))
        unmet = {r: found for r in REQUIREMENTS if (found := find_unmet(r))}
        errors += [f"{found}; run: {r.command}" for r, found in unmet.items()]
        return {
            "valid": not errors,
            "errors": errors,
            "environment_vars": values,
            "port": values.get("MLX_PORT"),
            "dependencies": {"all_installed": not unmet, "missing": [r.module for r in unmet]},
        }

    def _setting_value(self, setting: Setting) -> Any:
        name = str(setting.environment)
        text = self._variable(name)
        if not text.strip():
            return setting.default_value
        try:
            value = setting.read(text)
        except ValueError as error:
            fix = f"Set {name} to another value, or unset it."
            raise ValidationError(
                f"{name}: {error}. {fix}", setting=name, value=text, fix=fix
            ) from None
        return "set" if _SECRET_NAME.search(name) else value

    def _variable(self, name: str) -> str:
        given = self._given_environment
        try:
            return (os.environ if given is None else given).get(name, "")
        except UnicodeError:  # a lone surrogate cannot be a name
            return ""


def _model_errors(model: str) -> list[str]:
    """Look into a model that is named by its folder; other names are resolved when serving."""
    if not names_a_folder(model):
        return []
    folder = Path(os.path.expanduser(model))  # noqa: PTH111 - unlike Path's, it never raises
    problems = check_model_folder(folder)
    return [f"MLX_MODEL: the folder {shown(model)} {p.what}. {p.fix}" for p in problems]


def _port_number(port: object) -> int:
    fix = f"Use a whole number from 1 to {_LAST_PORT}."
    refused = ValidationError(
        f"{shown(port)} is not a port. {fix}", setting="port", value=port, fix=fix
    )
    if isinstance(port, bool) or not isinstance(port, int | str):
        raise refused
    try:
        return int(between(1, _LAST_PORT)(port if isinstance(port, str) else f"{port:d}"))
    except ValueError:
        raise refused from None


def _typed(
    name: str, text: str, var_type: str, min_value: int | None, max_value: int | None
) -> Any:
    try:
        if var_type == "str":
            return text
        if var_type == "bool":
            return parse_boolean(text)
        if var_type == "int":
            return between(min_value, max_value)(text)
    except ValueError as error:
        raise ValidationError(
            f"{shown(name)}: {error}", setting=name, value=text, fix=f"Set {shown(name)} anew."
        ) from None
    raise ValidationError(
        f"{shown(var_type)} is not a type of variables; use 'str', 'int' or 'bool'",
        setting=name,
        value=var_type,
        fix="Use 'str', 'int' or 'bool'.",
    )
