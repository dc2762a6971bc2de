"""pybuild: a layered image builder for Dockerfile-style recipes."""

__version__ = "0.1.0"
