"""The scripts that make a shell complete pybuild's command lines.

They ask pybuild itself, by the protocol of click: `_PYBUILD_COMPLETE` says for which shell the answer is. The scripts for zsh
and fish are click's. That for bash is ours, because bash divides words at ":" and "=", which names of images and options have.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from click.shell_completion import FishComplete, ShellComplete, ZshComplete

if TYPE_CHECKING:
    import click

SHELLS = ("bash", "zsh", "fish")
_VARIABLE = "_PYBUILD_COMPLETE"

_BASH = """\
# Completion of %(program)s for bash. The answer comes from the program, in the form that it has for fish.
%(function)s() {
    local line=${COMP_LINE:0:COMP_POINT} breaks= last cut type value
    last=${line##*[[:space:]]}
    # What bash takes for words of their own: the part of the last word up to a ":" or "=".
    [[ $COMP_WORDBREAKS == *:* ]] && breaks+=:
    [[ $COMP_WORDBREAKS == *=* ]] && breaks+==
    cut=
    [[ -n $breaks ]] && cut=${last%%"${last##*[$breaks]}"}
    COMPREPLY=()
    while IFS=, read -r type value; do
        case $type in
            dir) compopt -o dirnames 2>/dev/null ;;
            file) compopt -o default 2>/dev/null ;;
            plain)
                value=${value%%%%$'\\t'*}
                COMPREPLY+=("${value#"$cut"}")
                ;;
        esac
    done < <(COMP_WORDS=$line COMP_CWORD=$last %(variable)s=fish_complete "$1" 2>/dev/null)
}
complete -o nosort -F %(function)s %(program)s
"""


def completion_script(command: click.Command, shell: str, program: str = "pybuild") -> str:
    """The script for a shell of SHELLS, for a command that is installed as `program`."""
    match shell:
        case "bash":
            function = f"_{program.replace('-', '_')}_completion"
            return _BASH % {"program": program, "function": function, "variable": _VARIABLE}
        case "zsh":
            kind: type[ShellComplete] = ZshComplete
        case _:
            kind = FishComplete
    return kind(command, {}, program, _VARIABLE).source()
