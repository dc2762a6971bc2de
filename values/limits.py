"""Limits that several packages share."""

CONTEXT_LIMIT = 16 << 30  # bytes of a build context, or of the files of a git repository
CONTEXT_ENTRIES = 5_000_000  # files and directories of a context or repository
