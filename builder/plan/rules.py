"""All rules that warn about a recipe: their names, and what they mean in one sentence.

docs/user/checks.md has a section for each. Names and descriptions of BuildKit's rules are BuildKit's, so that programs that
read its reports read these too.
"""

from __future__ import annotations

import re

_BUILDKIT = {
    "ConsistentInstructionCasing": "All commands within the Dockerfile should use the same casing (either upper or lower)",
    "CopyIgnoredFile": "Attempting to Copy file that is excluded by .dockerignore",
    "DuplicateStageName": "Stage names should be unique",
    "ExposeInvalidFormat": "IP address and host-port mapping should not be used in EXPOSE instruction",
    "ExposeProtoCasing": "Protocol in EXPOSE instruction should be lowercase",
    "FromAsCasing": "The 'as' keyword should match the case of the 'from' keyword",
    "FromPlatformFlagConstDisallowed": "FROM --platform flag should not use a constant value",
    "InvalidBaseImagePlatform": "Base image platform does not match expected target platform",
    "InvalidDefaultArgInFrom": "Default value for global ARG results in an empty or invalid base image name",
    "InvalidDefinitionDescription": "Comment for build stage or argument should follow the format: `# <arg/stage name> <description>`",
    "JSONArgsRecommended": "JSON arguments recommended for ENTRYPOINT/CMD to prevent unintended behavior related to OS signals",
    "LegacyKeyValueFormat": "Legacy key/value format with whitespace separator should not be used",
    "MaintainerDeprecated": "The MAINTAINER instruction is deprecated, use a label instead to define an image author",
    "MultipleInstructionsDisallowed": "Multiple instructions of the same type should not be used in the same stage",
    "NoEmptyContinuation": "Empty continuation lines will become errors in a future release",
    "RedundantTargetPlatform": "Setting platform to predefined $TARGETPLATFORM in FROM is redundant as this is the default behavior",
    "ReservedStageName": "Reserved words should not be used as stage names",
    "SecretsUsedInArgOrEnv": "Sensitive data should not be used in the ARG or ENV commands",
    "StageNameCasing": "Stage names should be lowercase",
    "UndefinedArgInFrom": "FROM command must use declared ARGs",
    "UndefinedVar": "Variables should be defined before their use",
    "WorkdirRelativePath": "Relative workdir without an absolute workdir declared within the build can have unexpected results if the base image changes",
}
_OURS = {
    "BidirectionalText": "Characters that change the direction of text can hide what a line does",
    "CopyLastFileWins": "Several files get one name, so only the last one stays",
    "CopyLinkResetsDirectory": "COPY --link makes the directories of its destination anew, with another mode or owner",
    "CopyUnmatchedWildcard": "A pattern matches no file, so nothing is copied for it",
    "EmptyDestination": "A destination is empty once its variables are replaced, which means the working directory",
    "EmptyName": "The name in an ENV or LABEL is empty once its variables are replaced",
    "EmptySource": "A source is empty once its variables are replaced, which means the whole context",
    "EmptyUser": "A USER is empty once its variables are replaced, which means root",
    "EmptyWorkdir": "A WORKDIR is empty once its variables are replaced, so it changes nothing",
    "UnknownBuildArg": "A build argument that no ARG declares has no effect",
}
RULES = {**_BUILDKIT, **_OURS}
DOCUMENT = "docs/user/checks.md"


def url_of(rule: str) -> str:
    """Where a rule is explained: BuildKit's page for its rules, else the section of our document."""
    if rule in _BUILDKIT:
        words = re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "-", rule).lower()
        return f"https://docs.docker.com/go/dockerfile/rule/{words}/"
    return section_of(rule)


def section_of(rule: str) -> str:
    """The section of our document about a rule."""
    return f"{DOCUMENT}#{rule.lower()}"
