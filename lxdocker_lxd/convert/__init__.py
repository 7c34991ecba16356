"""From a registry reference to a published LXD image."""
