"""Readers of image servers: trees of documents and files, and whose signatures count there."""
