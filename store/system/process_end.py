"""How this process ends: what the kernel does then, such as closing files and releasing locks, need not be done before."""

from __future__ import annotations

at_once = False  # whether it runs one command and then ends by _exit(2); the main program says so
