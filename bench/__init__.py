"""Measures pybuild, other builders and a floor in alternation; `docs/user/performance.md` explains the results."""
