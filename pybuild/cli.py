"""The command line: global options, the choice of a verb, signals and exit statuses."""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING

import click

from pybuild import signals
from pybuild.defaults import default_root
from pybuild.options.arguments import normalise
from pybuild.user_limits import user_limits
from pybuild.values.pattern import pattern
from pybuild.verbs import VERBS, verb
from pybuild.version import __version__

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

_EXIT_FAILED, _EXIT_USAGE = 1, 2
_WORD = pattern(r"[A-Za-z][A-Za-z_-]*")  # what a command could be called: not a path, URL, option or -


class DefaultGroup(click.Group):
    """A group whose default command is `build`. A verb wins over a directory with the same name."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and self.get_command(ctx, args[0]) is None:
            if _WORD.fullmatch(args[0]) and not os.path.lexists(args[0]):
                from pybuild.commands.help import refuse_misspelt  # a local import: most commands do not need it

                refuse_misspelt(args[0], self.list_commands(ctx), *args[1:2])
            args = ["build", *args]
        return super().resolve_command(ctx, args)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Where a command can stand, there can be an option or the context of a build too."""
        build = verb("build")
        assert build is not None
        if incomplete.startswith("-"):
            more = build.shell_complete(click.Context(build, ctx, "build", resilient_parsing=True), incomplete)
        else:
            from pybuild.options.completion import complete_directories

            more = complete_directories(ctx, build.params[0], incomplete)
        known = super().shell_complete(ctx, incomplete)
        return known + [item for item in more if item.value not in {each.value for each in known}]

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return verb(cmd_name)


@click.group(
    cls=DefaultGroup,
    context_settings={
        "ignore_unknown_options": True,
        "allow_interspersed_args": False,
        "help_option_names": ["-h", "--help"],
    },
    invoke_without_command=False,
)
@click.option(
    "--root",
    metavar="DIR",
    envvar="PYBUILD_ROOT",
    help="The directory of the store. [default: /var/lib/pybuild for root, else ~/.local/share/pybuild]",
)
@click.option(
    "--tls-verify/--no-tls-verify",
    default=True,
    help="Check the certificates of registries and refuse plain HTTP. [default: check]",
)
@click.option("--debug", is_flag=True, help="Show errors with a Python traceback.")
@click.version_option(__version__, prog_name="pybuild")
@click.pass_context
def cli(ctx: click.Context, root: str | None, tls_verify: bool, debug: bool) -> None:
    """Build OCI images from Dockerfile-style recipes, without a daemon.

    `pybuild CONTEXT` is short for `pybuild build CONTEXT`; `pybuild build --help` shows the options of a build. The
    options below stand before the command.
    """
    ctx.obj = root or default_root()
    ctx.meta["tls_verify"] = tls_verify
    ctx.meta["debug"] = debug
    ctx.with_resource(user_limits(os.environ))


def run(arguments: list[str]) -> int:
    """Run one command and return its exit status. From then on a signal ends the process at once."""
    try:
        try:
            signals.raise_terminated()
            return _status(arguments)
        finally:
            signals.end_at_once()
    except signals.Terminated as error:
        reason = (
            "interrupted" if error.number == signal.SIGINT else f"terminated by {signal.Signals(error.number).name}"
        )
        print(f"error: {reason}", file=sys.stderr)
        return 128 + error.number


def _status(arguments: list[str]) -> int:
    try:
        status = cli.main(normalise(arguments), prog_name="pybuild", standalone_mode=False)
        _flush()
        return int(status or 0)
    except click.UsageError as error:
        _without_hidden(error).show()
        return _EXIT_USAGE
    except click.ClickException as error:
        error.show()
        return _EXIT_FAILED
    except click.Abort:  # the user has answered no
        print("nothing was changed", file=sys.stderr)
        return _EXIT_FAILED
    except Exception as error:
        return _failed(error, debug="--debug" in arguments)


def _without_hidden(error: click.UsageError) -> click.UsageError:
    """The same error. Options that exist only to say what to use in their place are not what the user meant."""
    if not isinstance(error, click.NoSuchOption) or not error.possibilities or error.ctx is None:
        return error
    shown = {
        name for option in error.ctx.command.params if not getattr(option, "hidden", False) for name in option.opts
    }
    return click.NoSuchOption(
        error.option_name, possibilities=[name for name in error.possibilities if name in shown], ctx=error.ctx
    )


def _flush() -> None:
    """Write buffered output now, because a failure can still be reported here."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:  # None if it was closed before pybuild started
            stream.flush()


def _failed(error: Exception, *, debug: bool) -> int:
    from pybuild import report
    from pybuild.store.errors import NameNeeded

    if isinstance(error, BrokenPipeError):
        # The reader of our output is gone, so nothing can be printed.
        sys.stdout = open(os.devnull, "w")
        return _EXIT_FAILED
    if debug or not isinstance(error, (*report.EXPECTED, ImportError, MemoryError)):
        raise error
    if isinstance(error, MemoryError | ImportError):
        # A module that is needed late can fail to load on a machine without memory.
        text = str(error)
        print(f"error: {f'Python cannot load a module: {text}' if text else 'out of memory'}", file=sys.stderr)
        return _EXIT_FAILED
    report.show(error)
    return _EXIT_USAGE if isinstance(error, NameNeeded) else _EXIT_FAILED
