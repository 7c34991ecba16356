"""Application images of OCI registries as plain LXD containers."""

__all__ = ["__version__"]

__version__ = "0.1.0"
