"""pybuild login and logout: credentials for registries, stored where docker and podman look for them."""

from __future__ import annotations

import getpass
import os
import sys

import click

from pybuild import report
from pybuild.options.arguments import tls_verify_option

_PASSWORD_BYTES = 16 << 10
_DEFAULT = "docker.io"
_AUTHFILE = click.Option(
    ["--authfile"], metavar="FILE", default="", help="Use this file. [default: where docker and podman look for logins]"
)


class _Waits:
    """Prints why pybuild waits."""

    def waits(self, text: str) -> None:
        click.echo(f"note: {text}", err=True)

    def received(self, done: int, total: int | None) -> None:
        """Nothing: a login transfers next to nothing."""


@click.command(params=[_AUTHFILE, tls_verify_option()])
@click.argument("registry", default=_DEFAULT)
@click.option("-u", "--username", metavar="NAME", help="The user name. [default: ask for it]")
@click.option("-p", "--password", metavar="TEXT", help="The password. Other users can see it: prefer --password-stdin.")
@click.option("--password-stdin", is_flag=True, help="Read the password from standard input.")
def login(
    registry: str,
    username: str | None,
    password: str | None,
    password_stdin: bool,
    authfile: str,
    tls_verify: bool,
) -> int:
    """Log in to a registry, docker.io if none is named.

    pybuild tries the login at the registry and then stores it where docker and podman find it too. REGISTRY can be
    HOST/PATH: the login is then for the repositories below it.
    """
    # Local imports: manual pages are made from this module where no urllib3 is installed.
    from pybuild.remote.listener import listening
    from pybuild.remote.registry.config import Config
    from pybuild.remote.registry.credentials import Login
    from pybuild.remote.registry.login import LoginScope, check_login, login_file, store_login

    scope = LoginScope.parse(registry)
    if password_stdin and password is not None:
        raise click.UsageError("--password and --password-stdin exclude each other.")
    if password_stdin and username is None:
        raise click.UsageError("--password-stdin needs --username.")
    if password is not None:
        click.echo(
            "warning: other users of this machine can see --password while pybuild runs, and shells keep it in their "
            "history: use --password-stdin",
            err=True,
        )
    file = authfile and os.path.abspath(authfile)
    login_file(scope, os.environ, file=file)  # before a question whose answer would be of no use
    user = _checked_user(_ask_user() if username is None else username)
    if password_stdin:
        password = _read_password()
    elif password is None:
        password = _ask_password()
    found = Login(user, _checked_password(password))
    with listening(_Waits()):
        asked = check_login(scope, found, Config.load(os.environ), os.environ, tls_verify=tls_verify)
    place = store_login(scope, found, os.environ, file=file)
    click.echo(f"logged in to {scope} as {user}; stored in {place}{'' if place.helper else ', unencrypted'}")
    if not asked:
        click.echo(f"note: {scope.registry} does not ask for a login, so the password is not checked", err=True)
    return 0


@click.command(params=[_AUTHFILE])
@click.argument("registry", required=False)
@click.option("-a", "--all", "everything", is_flag=True, help="Remove the logins for all registries.")
def logout(registry: str | None, everything: bool, authfile: str) -> int:
    """Remove the login for a registry, docker.io if none is named.

    It is removed from every file and credential helper where a pull would find it.
    """
    if everything and registry is not None:
        raise click.UsageError("--all and a registry exclude each other.")
    from pybuild.remote.registry.login import LoginScope
    from pybuild.remote.registry.logout import remove_logins

    scope = None if everything else LoginScope.parse(registry or _DEFAULT)
    done = remove_logins(scope, os.environ, file=authfile and os.path.abspath(authfile))
    for one in done.removed:
        click.echo(f"removed the login for {one.name} from {one.place}")
    if not done.removed and not done.failures:
        click.echo("no login is stored" if scope is None else f"no login for {scope} is stored")
    for one in done.left:
        click.echo(f"note: {one.place} has a login for {one.name}; pybuild logout {one.name} removes it", err=True)
    for error in done.failures:
        report.show(error)
    return 1 if done.failures else 0


def _ask_user() -> str:
    _need_terminal("--username and --password-stdin")
    print("Username: ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip()


def _ask_password() -> str:
    _need_terminal("--password-stdin")
    try:
        return getpass.getpass("Password: ")
    except EOFError:
        return ""


def _need_terminal(instead: str) -> None:
    if not sys.stdin.isatty():
        raise click.UsageError(f"standard input is not a terminal, so pybuild cannot ask: use {instead}.")


def _read_password() -> str:
    data = sys.stdin.buffer.read(_PASSWORD_BYTES + 3)
    try:
        return data.decode().removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        raise click.UsageError("the password on standard input is not UTF-8.") from None


def _checked_user(user: str) -> str:
    if not user:
        raise click.UsageError("the user name is empty.")
    if ":" in user or not user.isprintable():
        raise click.UsageError("the user name has a colon or a control character.")
    return user


def _checked_password(password: str) -> str:
    if not password:
        raise click.UsageError("the password is empty.")
    if len(password.encode("utf-8", "surrogateescape")) > _PASSWORD_BYTES:
        raise click.UsageError(f"the password exceeds the limit of {_PASSWORD_BYTES >> 10} KiB.")
    if "\0" in password or any("\ud800" <= character <= "\udfff" for character in password):
        raise click.UsageError("the password has a NUL or is not UTF-8.")
    return password
