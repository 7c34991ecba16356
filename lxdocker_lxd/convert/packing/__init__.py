"""Packing: a stream of a root filesystem into the files of a split LXD image."""
