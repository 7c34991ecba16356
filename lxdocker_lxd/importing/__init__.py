"""Images straight into LXD: what a word names, converted, sent, named, and remembered."""
