"""Networks and mounts of a process's own, left behind when it ends (root)."""

import ctypes
import os
import subprocess

_NEW_MOUNTS, _NEW_NETWORK = 0x00020000, 0x40000000


def own_mounts() -> None:
    """Mount from now on for this process alone."""
    _unshare(_NEW_MOUNTS)
    subprocess.run(["/bin/mount", "--make-rprivate", "/"], check=True)


def own_network() -> None:
    """Leave this machine's network for an empty one."""
    _unshare(_NEW_NETWORK)


def _unshare(flags: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(flags):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
