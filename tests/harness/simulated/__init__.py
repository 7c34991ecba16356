"""A LXD in memory, in parts; ``tests.harness.simulated_lxd`` puts them together."""
