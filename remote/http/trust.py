"""Which certificates a TLS connection trusts: those of the system, of the user, and of docker's and podman's directories.

Source of the directories: containers-certs.d(5) and dockerd's "Verify repository client with certificates":
`<directory>/<host:port>/` with *.crt (authorities) and pairs of *.cert and *.key (client certificates).
"""

from __future__ import annotations

import os
import ssl
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
    """The context for connections to a site. Raises ConfigError for a certificate that cannot be read."""
    context = system_context(environ)
    if not site.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    for path in site.ca_files:
        _load(context, path)
    for directory in _directories(environ, directories):
        # As in docker and podman, only the first directory that has the site counts.
        if _load_directory(context, f"{directory}/{site.name}"):
            break
    return context


def system_context(environ: Mapping[str, str]) -> ssl.SSLContext:
    """The context for servers that a site redirects to. It trusts the system's authorities only. Raises ConfigError."""
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # Since Python 3.13 this is on by default. It refuses private authorities without the keyUsage extension, which
    # docker, podman and earlier Pythons accept.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    # OpenSSL would read the process's own environment, which can be empty.
    file, directory = environ.get("SSL_CERT_FILE"), environ.get("SSL_CERT_DIR")
    if file and os.path.isfile(file):
        _load(context, file)
    if directory and os.path.isdir(directory):
        context.load_verify_locations(capath=directory)
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


def _load_directory(context: ssl.SSLContext, directory: str) -> bool:
    try:
        names = sorted(os.listdir(directory))
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise ConfigError(f"{directory}: {error.strerror}") from None
    for name in names:
        stem, suffix = os.path.splitext(name)
        if suffix == ".crt":
            _load(context, f"{directory}/{name}")
        elif suffix == ".cert":
            _load_client_certificate(context, f"{directory}/{name}", f"{directory}/{stem}.key")
    return True


def _load_client_certificate(context: ssl.SSLContext, certificate: str, key: str) -> None:
    try:
        # Without a callback OpenSSL would ask for the key's password on the terminal.
        context.load_cert_chain(certificate, key, password=lambda: b"")
    except ssl.SSLError:
        raise ConfigError(f"{certificate}: not a certificate in PEM form that matches {key}") from None
    except OSError as error:
        raise ConfigError(f"{certificate}, {key}: {error.strerror}") from None
