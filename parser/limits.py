"""How much one recipe may ask for; every error about a limit names it."""

from __future__ import annotations

RECIPE_BYTES = 4 * 1024 * 1024
LINE_CHARACTERS = 1024 * 1024  # of one logical line, its continuations joined
INSTRUCTIONS = 100_000
STAGES = 1000
EXPANSION_CHARACTERS = 1024 * 1024  # of one expanded word, and of every word nested in it
EXPANSION_DEPTH = 64  # of ${a:-${b:-...}}
EXPANSION_WORK = 64 * 1024 * 1024  # characters looked at or copied while one word is expanded
