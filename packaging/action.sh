#!/bin/bash
# What action.yml runs: install pybuild if it is not there, log in, build. Inputs are INPUT_NAME, lists have one item a line.
set -euo pipefail

if ! command -v pybuild >/dev/null; then
    pipx install --quiet "$PYBUILD_ACTION"
fi

options=()
one() { # OPTION VALUE
    if [ -n "$2" ]; then options+=("$1=$2"); fi
}
each() { # OPTION LINES
    local line
    while IFS= read -r line; do
        line=${line#"${line%%[![:space:]]*}"}
        line=${line%"${line##*[![:space:]]}"}
        one "$1" "$line"
    done <<<"$2"
}

one --file "$INPUT_FILE"
one --target "$INPUT_TARGET"
one --rules "$INPUT_RULES"
each --tag "$INPUT_TAGS"
each --output "$INPUT_OUTPUTS"
each --build-arg "$INPUT_BUILD_ARGS"
each --secret "$INPUT_SECRETS"
each --platform "$INPUT_PLATFORMS"
each --cache-from "$INPUT_CACHE_FROM"
each --cache-to "$INPUT_CACHE_TO"
case $INPUT_PUSH in
    true) options+=(--push) ;;
    false | "") ;;
    *)
        echo "::error::push: expected true or false, not $INPUT_PUSH"
        exit 2
        ;;
esac
while IFS= read -r line; do
    if [ -n "$line" ]; then options+=("$line"); fi
done <<<"$INPUT_OPTIONS"

if [ -n "$INPUT_USERNAME" ]; then
    printenv INPUT_PASSWORD | pybuild login --username "$INPUT_USERNAME" --password-stdin ${INPUT_REGISTRY:+"$INPUT_REGISTRY"}
fi
digest=$(pybuild build "${options[@]}" -- "$INPUT_CONTEXT")
echo "$digest"
echo "digest=$digest" >>"$GITHUB_OUTPUT"
