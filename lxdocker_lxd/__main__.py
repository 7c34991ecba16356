"""``python -m lxdocker_lxd``: the same as the ``lxdocker-lxd`` command."""

from lxdocker_lxd.cli import entry

if __name__ == "__main__":
    entry()
