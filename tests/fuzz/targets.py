"""All targets, by name."""

from tests.fuzz import image_targets, own_targets, server_targets
from tests.fuzz.target import Target

TARGETS: dict[str, Target] = {
    target.name: target
    for module in (image_targets, server_targets, own_targets)
    for target in module.TARGETS
}
