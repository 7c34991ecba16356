"""What a check of a tree found. Pure."""

from dataclasses import dataclass
from typing import Literal

Severity = Literal["wrong", "unreached", "remark"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One finding about ``path``, relative to the tree.

    ``wrong``: a client gets wrong content, or loses something without a word. ``unreached``: it
    couldn't be checked, the network failed. ``remark``: worth knowing, nothing is wrong with it.
    """

    severity: Severity
    path: str
    problem: str


def wrong(path: str, problem: str) -> Finding:
    """Return a finding that something is wrong; ``problem`` may begin with the path."""
    return Finding(severity="wrong", path=path, problem=problem.removeprefix(f"{path}: "))


def remark(path: str, problem: str) -> Finding:
    """Return a finding that something is worth knowing."""
    return Finding(severity="remark", path=path, problem=problem)
