"""How long pybuild takes beside its peers and beside a floor, measured in turns; `docs/performance.md` reads the results."""
