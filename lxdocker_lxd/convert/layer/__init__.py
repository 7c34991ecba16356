"""Layers: from compressed tar streams to one merged tree, and from the tree to one stream."""
