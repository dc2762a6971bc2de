"""Whom a TLS connection trusts: the system's authorities, the user's, and those kept for docker.

Source of the directories: containers-certs.d(5) and dockerd's "Verify repository client with certificates":
`<directory>/<host:port>/` with *.crt (authorities) and pairs of *.cert and *.key (who we are).
"""

from __future__ import annotations

import os
import ssl
from typing import TYPE_CHECKING

from pybuild.remote.errors import RemoteError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pybuild.remote.http.site import Site

_SYSTEM_DIRECTORIES = ("/etc/containers/certs.d", "/etc/docker/certs.d")
# Where systems keep the authorities in one file: Debian and Alpine, Fedora.
_BUNDLES = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem")


def tls_context(
    site: Site, environ: Mapping[str, str], directories: Sequence[str] = _SYSTEM_DIRECTORIES
) -> ssl.SSLContext:
    """The context for connections to a site. Raises RemoteError for a certificate that cannot be read."""
    context = foreign_context(environ)
    if not site.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    for path in site.ca_files:
        _load(context, path)
    for directory in _directories(environ, directories):
        # The first directory that knows the site is the only one that counts, as with the other tools.
        if _load_directory(context, f"{directory}/{site.name}"):
            break
    return context


def foreign_context(environ: Mapping[str, str]) -> ssl.SSLContext:
    """The context for every other server that we are sent to: the system's authorities and nothing else."""
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # Read from `environ`, for a process whose own environment has been emptied.
    file, directory = environ.get("SSL_CERT_FILE"), environ.get("SSL_CERT_DIR")
    if file and os.path.isfile(file):
        _load(context, file)
    if directory and os.path.isdir(directory):
        context.load_verify_locations(capath=directory)
    return context


def authorities(
    site: Site | None, environ: Mapping[str, str], directories: Sequence[str] = _SYSTEM_DIRECTORIES
) -> bytes | None:
    """All that a connection trusts, in PEM form, for a program of another kind; None where that is the system's alone.

    Without a site it is the other servers that we are sent to. Raises RemoteError for a file that cannot be read.
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
        raise RemoteError(f"{path}: no certificates in PEM form") from None
    except OSError as error:
        raise RemoteError(f"{path}: {error.strerror}") from None


def _load_directory(context: ssl.SSLContext, directory: str) -> bool:
    try:
        names = sorted(os.listdir(directory))
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise RemoteError(f"{directory}: {error.strerror}") from None
    for name in names:
        stem, suffix = os.path.splitext(name)
        if suffix == ".crt":
            _load(context, f"{directory}/{name}")
        elif suffix == ".cert":
            _identify(context, f"{directory}/{name}", f"{directory}/{stem}.key")
    return True


def _identify(context: ssl.SSLContext, certificate: str, key: str) -> None:
    try:
        # Without an answer OpenSSL would ask for the password of a key on the terminal.
        context.load_cert_chain(certificate, key, password=lambda: b"")
    except ssl.SSLError:
        raise RemoteError(f"{certificate}: no certificate in PEM form that {key} belongs to") from None
    except OSError as error:
        raise RemoteError(f"{certificate}, {key}: {error.strerror}") from None
