"""Keeps instances on the newest version of their image."""
