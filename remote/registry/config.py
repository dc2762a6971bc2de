"""The user's configuration of registries, limits and emulators: a TOML file.

    [registry."docker.io"]
    mirrors = ["mirror.example:5000", "cache.example/dockerhub"]    # tried first, in this order

    [registry."registry.example:5000"]
    tls-verify = false                     # accept any certificate, and plain http too, but then without credentials
    plain-http = true                      # use http only; credentials are then sent unencrypted
    ca-files = ["/etc/ssl/company.pem"]    # trusted for this registry, besides the system's authorities
    token-hosts = ["login.example"]        # other hosts that may get this registry's credentials, for a token

    [limits]                               # values/limits.py lists them; the variables PYBUILD_LIMIT_… win
    retries = 5
    layer-bytes = "400g"

    [emulators]                            # of other processors, by Go's name: static programs
    arm64 = "/opt/qemu/qemu-aarch64"

$PYBUILD_CONFIG names the file. Without it pybuild reads /etc/pybuild/config.toml and then
$XDG_CONFIG_HOME/pybuild/config.toml; a registry's table in the second replaces the whole table in the first.
"""

from __future__ import annotations

import dataclasses
import os
import tomllib
from collections.abc import Mapping
from dataclasses import field
from typing import TYPE_CHECKING, Any

from pybuild.remote.errors import ConfigError, RemoteError
from pybuild.remote.http.site import RemoteLimits
from pybuild.remote.http.urls import parse_host
from pybuild.remote.registry.config_files import configuration_files
from pybuild.store.errors import StoreError
from pybuild.store.formats.reference import Reference
from pybuild.store.system.files import read_regular
from pybuild.values import frozen, limits
from pybuild.values.errors import PybuildError
from pybuild.values.limits import CONFIGURATION_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterable


@frozen
class RegistrySettings:
    """The settings of one registry."""

    mirrors: tuple[str, ...] = ()  # host[:port][/prefix]
    tls_verify: bool = True
    plain_http: bool = False
    ca_files: tuple[str, ...] = ()
    token_hosts: tuple[str, ...] = ()


@frozen
class Config:
    """The whole configuration."""

    registries: Mapping[str, RegistrySettings] = field(default_factory=dict)  # by host[:port] as in names
    limits: RemoteLimits = field(default_factory=RemoteLimits.current)
    changed_limits: Mapping[str, int] = field(default_factory=dict)  # all that the files change, by name
    emulators: Mapping[str, str] = field(
        default_factory=dict
    )  # processor -> absolute path; nobody has looked at either

    @staticmethod
    def load(environ: Mapping[str, str]) -> Config:
        """Read the files that exist. Raises ConfigError, which names file and key."""
        config = Config()
        for path, required in configuration_files(environ):
            try:
                fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            except FileNotFoundError:
                if required:
                    raise ConfigError(f"{path}: no such file", hint="PYBUILD_CONFIG names this file") from None
                continue
            except OSError as error:
                # HOME can be the directory of another user, as with `docker run --user`, or /dev/null.
                if not required and not os.path.exists(path):
                    continue
                raise ConfigError(f"{path}: {error.strerror}") from None
            try:
                config = config.updated(read_regular(fd, CONFIGURATION_BYTES, path), path)
            except StoreError as error:
                raise ConfigError(str(error), hint=error.hint) from None
            finally:
                os.close(fd)
        return config

    def updated(self, data: bytes, path: str) -> Config:
        """This configuration, overridden by a file. Raises ConfigError, which names file (`path`) and key."""
        try:
            document = tomllib.loads(data.decode("utf-8"))
        except (ValueError, RecursionError) as error:  # not only TOMLDecodeError: a number can have too many digits
            raise ConfigError(f"{path}: invalid TOML: {error}") from None
        _refuse_unknown(document, ("registry", "limits", "emulators"), path, "")
        registries = dict(self.registries)
        for host, table in _table(document, "registry", path, "").items():
            key = f'registry."{host}"'
            if not isinstance(table, dict):
                raise ConfigError(f"{path}: {key}: expected a table")
            _check_host(host, path, key, prefix=False)
            registries[host] = _settings(table, path, key)
        changed = {**self.changed_limits, **_limits(_table(document, "limits", path, ""), path)}
        emulators = {**self.emulators, **_emulators(_table(document, "emulators", path, ""), path)}
        with limits.applied_below(changed):
            return Config(registries, RemoteLimits.current(), changed, emulators)

    def for_registry(self, host: str) -> RegistrySettings:
        """The settings of a registry, by its host[:port]."""
        return self.registries.get(host, RegistrySettings())


def _settings(table: dict[str, Any], path: str, key: str) -> RegistrySettings:
    names = {name.name.replace("_", "-"): name.name for name in dataclasses.fields(RegistrySettings)}
    _refuse_unknown(table, names, path, key + ".")
    values: dict[str, Any] = {}
    for name, value in table.items():
        where = f"{key}.{name}"
        if name in ("tls-verify", "plain-http"):
            if not isinstance(value, bool):
                raise ConfigError(f"{path}: {where}: expected true or false")
            values[names[name]] = value
            continue
        if not isinstance(value, list) or not all(isinstance(item, str) and item for item in value):
            raise ConfigError(f"{path}: {where}: expected a list of strings")
        for item in value:
            if name == "ca-files":
                if not item.startswith("/"):
                    raise ConfigError(f"{path}: {where}: {item!r} is not an absolute path")
            else:
                _check_host(item, path, where, prefix=name == "mirrors")
        values[names[name]] = tuple(value)
    return RegistrySettings(**values)


def _limits(table: dict[str, Any], path: str) -> dict[str, int]:
    _refuse_unknown(table, limits.LIMITS, path, "limits.")
    changed = {}
    for name, value in table.items():
        text = value if isinstance(value, str) else str(value) if type(value) is int else ""
        try:
            changed[name] = limits.parse(limits.LIMITS[name], text)
        except ValueError as error:
            raise ConfigError(f"{path}: limits.{name}: {error}") from None
    return changed


def _emulators(table: dict[str, Any], path: str) -> dict[str, str]:
    for name, program in table.items():
        if not isinstance(program, str) or not program.startswith("/"):
            raise ConfigError(f"{path}: emulators.{name}: expected an absolute path")
    return table


def _table(document: dict[str, Any], name: str, path: str, prefix: str) -> dict[str, Any]:
    value = document.get(name, {})
    if not isinstance(value, dict):
        raise ConfigError(f"{path}: {prefix}{name}: expected a table")
    return value


def _refuse_unknown(table: Mapping[str, Any], names: Iterable[str], path: str, prefix: str) -> None:
    names = sorted(names)
    for name in table:
        if name not in names:
            raise ConfigError(f"{path}: {prefix}{name}: unknown key", hint=f"known here: {', '.join(names)}")


def _check_host(text: str, path: str, key: str, *, prefix: bool) -> None:
    """Check host[:port], and for a mirror (`prefix`) host[:port][/prefix]."""
    try:
        host, slash, rest = text.partition("/")
        split_host(host)
        if slash and not prefix:
            raise RemoteError("a path")
        if slash:
            Reference.parse(f"localhost/{rest}/name")
    except PybuildError:
        form = "host, host:port or either with /prefix" if prefix else "host or host:port"
        raise ConfigError(f"{path}: {key}: {text!r} is not {form}") from None


def split_host(text: str) -> tuple[str, int | None]:
    """Split `host[:port]` as written in image names. Raises RemoteError."""
    head, colon, port = text.rpartition(":")
    if not colon or (text.startswith("[") and text.endswith("]")):
        return parse_host(text.removeprefix("[").removesuffix("]")), None
    if not (port.isascii() and port.isdigit() and len(port) <= 5 and 0 < int(port) < 65536):
        raise RemoteError(f"{text!r}: invalid port")
    return parse_host(head.removeprefix("[").removesuffix("]")), int(port)
