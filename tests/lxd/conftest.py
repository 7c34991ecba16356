"""The real images, once per run: built, pushed to a registry, converted, imported into LXD."""

import json
import sys
from pathlib import Path

import pytest

from tests.harness.image_builder import build_images
from tests.harness.images import RECIPES
from tests.harness.lxd import PrivateLxd
from tests.harness.processes import run
from tests.harness.registry import real_registry


@pytest.fixture(scope="session")
def image_layout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An OCI layout whose tags are the names of the recipes."""
    return build_images(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="session")
def converted_images(
    image_layout: Path, private_lxd: PrivateLxd, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, dict[str, str]]:
    """Files of each converted image by name; in LXD the name is its alias."""
    work = tmp_path_factory.mktemp("converted")
    specs = work / "specs"
    specs.mkdir()
    with real_registry(work / "registry") as registry:
        for recipe in RECIPES:
            registry.push_layout(image_layout, recipe.name, f"apps/{recipe.name}:1.0")
            text = f"image: {registry.host}/apps/{recipe.name}:1.0\n"
            (specs / f"{recipe.name}.yaml").write_text(text)
        with (specs / "static.yaml").open("a") as spec:
            spec.write("env: {FROM_SPEC: spec, FROM_INSTANCE: spec}\n")
        command = (sys.executable, "-m", "lxdocker_lxd")
        directories = ("--specs", specs, "--cache", work / "cache")
        published = ("--lxdimages", work / "lxdimages")
        run(*command, "convert", *directories, *published, timeout_seconds=280)
    listed = run(*command, "images", *published, "--format", "json").stdout
    images = {image["name"]: image["files"] for image in json.loads(listed)["images"]}
    assert sorted(images) == sorted(recipe.name for recipe in RECIPES)
    for name, files in images.items():
        private_lxd.import_split(Path(files["metadata"]), Path(files["rootfs"]), name)
    return images
