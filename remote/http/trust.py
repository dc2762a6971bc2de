"""Which certificates a TLS connection trusts: those of the system, of the user, and of docker's and podman's directories.

Source of the directories: containers-certs.d(5) and dockerd's "Verify repository client with certificates":
`<directory>/<host:port>/` with *.crt (authorities) and pairs of *.cert and *.key (client certificates).
"""

from __future__ import annotations

import functools
import os
import ssl
import stat
from typing import TYPE_CHECKING

from pybuild.remote.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pybuild.remote.http.site import Site

_SYSTEM_DIRECTORIES = ("/etc/containers/certs.d", "/etc/docker/certs.d")
# The system's authorities in one file: Debian and Alpine, Fedora, others.
_BUNDLES = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem")


def tls_context(
    site: Site, environ: Mapping[str, str], directories: Sequence[str] = _SYSTEM_DIRECTORIES
) -> ssl.SSLContext:
    """The context for connections to a site; made once in a process, like `system_context`.

    Raises ConfigError for a certificate that cannot be read. Without verification no authorities are read.
    """
    return _tls_context(site, _variables(environ), tuple(_directories(environ, directories)))


def system_context(environ: Mapping[str, str]) -> ssl.SSLContext:
    """The context for servers that a site redirects to. It trusts the system's authorities only. Raises ConfigError.

    To read the system's authorities takes 20 ms, so a process does it once.
    """
    return _system_context(_variables(environ))


def _variables(environ: Mapping[str, str]) -> tuple[str, str]:
    # OpenSSL would read the process's own environment, which can be empty.
    return environ.get("SSL_CERT_FILE", ""), environ.get("SSL_CERT_DIR", "")


@functools.lru_cache
def _tls_context(site: Site, variables: tuple[str, str], directories: Sequence[str]) -> ssl.SSLContext:
    own = _directory_of(site, directories)
    if site.verify and own is None and not site.ca_files:
        return _system_context(variables)
    if site.verify:
        context = _new_system_context(variables)
        for path in site.ca_files:
            _load(context, path)
    else:
        context = bare_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if own is not None:
        _load_directory(context, own, authorities=site.verify)
    return context


@functools.lru_cache
def _system_context(variables: tuple[str, str]) -> ssl.SSLContext:
    return _new_system_context(variables)


def _new_system_context(variables: tuple[str, str]) -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # Since Python 3.13 this is on by default. It refuses private authorities without the keyUsage extension, which
    # docker, podman and earlier Pythons accept.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    file, directory = variables
    if os.path.isfile(file) and not _is_default(file):
        _load(context, file)
    if os.path.isdir(directory):
        context.load_verify_locations(capath=directory)
    return context


def _is_default(path: str) -> bool:
    """Whether a file is the one that OpenSSL reads anyway."""
    default = ssl.get_default_verify_paths().cafile
    return default is not None and os.path.realpath(default) == os.path.realpath(path)


def bare_context() -> ssl.SSLContext:
    """A context that trusts no certificate: a handshake shows whether a server speaks TLS, and then fails."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def trusted_certificates(
    site: Site | None, environ: Mapping[str, str], directories: Sequence[str] = _SYSTEM_DIRECTORIES
) -> bytes | None:
    """The certificates that a connection trusts, in PEM form, for git; None if it trusts only the system's.

    `site` is None for a server that a site redirects to. Raises ConfigError for a file that cannot be read.
    """
    files = [*(site.ca_files if site is not None else ())]
    if site is not None:
        for directory in _directories(environ, directories):
            try:
                names = sorted(os.listdir(f"{directory}/{site.name}"))
            except OSError:
                continue
            files += [f"{directory}/{site.name}/{name}" for name in names if name.endswith(".crt")]
            break
    named = environ.get("SSL_CERT_FILE")
    if named and os.path.isfile(named):
        files.append(named)
    if not files:
        return None
    _check(files)
    system = next(
        (path for path in (ssl.get_default_verify_paths().openssl_cafile, *_BUNDLES) if os.path.isfile(path)), None
    )
    texts = []
    for path in (*([system] if system is not None else []), *files):
        with open(path, "rb") as file:
            texts.append(file.read())
    return b"\n".join(texts)


def _check(files: Sequence[str]) -> None:
    """Raise ConfigError if OpenSSL cannot read one of the files."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    for path in files:
        _load(context, path)


def _directories(environ: Mapping[str, str], directories: Sequence[str]) -> list[str]:
    home = environ.get("XDG_CONFIG_HOME") or (f"{environ['HOME']}/.config" if environ.get("HOME") else "")
    return [*([f"{home}/containers/certs.d"] if home else []), *directories]


def _load(context: ssl.SSLContext, path: str) -> None:
    try:
        context.load_verify_locations(cafile=path)
    except ssl.SSLError:
        raise ConfigError(f"{path}: no certificates in PEM form") from None
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None


def _directory_of(site: Site, directories: Sequence[str]) -> str | None:
    """The directory with the certificates of a site: as in docker and podman, only the first that has the site counts."""
    for directory in directories:
        path = f"{directory}/{site.name}"
        try:
            if stat.S_ISDIR(os.stat(path).st_mode):
                return path
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            continue  # the last: HOME can be the directory of another user
        except OSError as error:
            raise ConfigError(f"{path}: {error.strerror}") from None
    return None


def _load_directory(context: ssl.SSLContext, directory: str, *, authorities: bool) -> None:
    try:
        names = sorted(os.listdir(directory))
    except OSError as error:
        raise ConfigError(f"{directory}: {error.strerror}") from None
    for name in names:
        stem, suffix = os.path.splitext(name)
        if suffix == ".crt" and authorities:
            _load(context, f"{directory}/{name}")
        elif suffix == ".cert":
            _load_client_certificate(context, f"{directory}/{name}", f"{directory}/{stem}.key")


def _load_client_certificate(context: ssl.SSLContext, certificate: str, key: str) -> None:
    try:
        # Without a callback OpenSSL would ask for the key's password on the terminal.
        context.load_cert_chain(certificate, key, password=lambda: b"")
    except ssl.SSLError:
        raise ConfigError(f"{certificate}: not a certificate in PEM form that matches {key}") from None
    except OSError as error:
        raise ConfigError(f"{certificate}, {key}: {error.strerror}") from None
