"""How long pybuild takes beside its peers and beside a floor, measured in turns; `docs/user/performance.md` reads the results."""
