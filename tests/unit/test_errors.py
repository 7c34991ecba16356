"""Exit codes are a promise to scripts."""

import importlib
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path

import lxdocker_lxd
from lxdocker_lxd.errors import CATEGORIES, LxdockerError

README = Path(__file__).parents[2] / "README.md"


def every_error() -> Iterator[type[LxdockerError]]:
    for module in pkgutil.walk_packages(lxdocker_lxd.__path__, "lxdocker_lxd."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    waiting = [LxdockerError]
    while waiting:
        kind = waiting.pop()
        yield kind
        waiting += kind.__subclasses__()


def test_each_category_has_a_code_of_its_own() -> None:
    codes = [category.exit_code for category in CATEGORIES]
    assert len(set(codes)) == len(codes)
    assert LxdockerError.exit_code not in codes


def test_each_error_keeps_the_code_of_its_category() -> None:
    for kind in every_error():
        categories = [category for category in CATEGORIES if issubclass(kind, category)]
        assert len(categories) == (0 if kind is LxdockerError else 1), kind
        if categories:
            assert kind.exit_code == categories[0].exit_code, kind


def test_the_readme_lists_each_code() -> None:
    listed = {int(code) for code in re.findall(r"^\| (\d+) \|", README.read_text(), re.MULTILINE)}
    promised = {category.exit_code for category in CATEGORIES} | {0, 1, 70, 130}
    assert listed == promised
