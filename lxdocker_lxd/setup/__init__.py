"""Setup: one command makes a host ready, and takes back what it did."""
