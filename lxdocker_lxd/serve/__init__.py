"""Serves published images to LXD, Incus and LXC."""
