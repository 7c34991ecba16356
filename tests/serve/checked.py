"""What tests of the check of trees share: an export to damage, and what was found."""

import shutil
from pathlib import Path

from lxdocker_lxd.clients.tree import Tree
from lxdocker_lxd.progress import Silent
from lxdocker_lxd.serve.tree_directory import DirectoryTree
from lxdocker_lxd.serve.verify import VerifyReport, verify
from tests.serve.shop import Shop, for_lxc
from tests.serve.trees import NOW, made, named

INDEX = "streams/v1/index.json"
IMAGES = "streams/v1/images.json"


def check(tree: Tree | Path, *, jobs: int = 2) -> VerifyReport:
    """Verify without keys."""
    where = DirectoryTree(tree) if isinstance(tree, Path) else tree
    return verify(where, jobs=jobs, checker=None, strict=False, progress=Silent())


def problems(report: VerifyReport, severity: str = "wrong") -> list[str]:
    return [f"{one.path}: {one.problem}" for one in report.findings if one.severity == severity]


def exported(directory: Path) -> Path:
    """An unsigned export: two names, two versions of one of them, one with a file for LXC."""
    shop = Shop(directory / "lxdimages")
    shop.publish(
        named("web", made("one"), for_lxc(made("new", at=NOW)), aliases=["www"]),
        named("db", made("two", "ghcr.io/a/db:1")),
    )
    shop.export(directory / "www")
    return directory / "www"


def without_record(tree: Path) -> Path:
    shutil.rmtree(tree / ".lxdocker-export")
    return tree


def change_byte(file: Path, place: float = 0.5) -> None:
    """Change one byte, so that the file is another one and not linked to its twins any more."""
    content = bytearray(file.read_bytes())
    content[int(len(content) * place)] ^= 1
    file.unlink()
    file.write_bytes(content)


def all_files(tree: Path) -> list[str]:
    found = (path for path in tree.rglob("*") if path.is_file() and path.stat().st_size)
    return sorted(str(path.relative_to(tree)) for path in found)


def replace(file: Path, content: bytes) -> None:
    file.unlink()
    file.write_bytes(content)
