"""``lxdocker-lxd inspect``: what an image is and how it would run, without its layers."""

import argparse

from lxdocker_lxd.console import Console, document, human_size, table
from lxdocker_lxd.convert.image_config import Healthcheck, ImageConfig
from lxdocker_lxd.convert.inspection import Inspection, inspect
from lxdocker_lxd.convert.sources import Sources
from lxdocker_lxd.convert.stop_signal import stop_signal_number
from lxdocker_lxd.convert.supervisor import SupervisorChoice, supervisor_choice
from lxdocker_lxd.platform import Platform
from lxdocker_lxd.reference import parse_source
from lxdocker_lxd.verbs.surroundings import load_settings, this_platform

_SHORT_DIGITS = 12
_COMMAND_LENGTH = 80


def run(options: argparse.Namespace, console: Console) -> int:
    """Ask the source for the image's documents and print them."""
    settings = load_settings(options)
    source = parse_source(options.reference)
    wanted = Platform.parse(options.platform) if options.platform else this_platform()
    with Sources(settings.registries) as sources:
        opened = sources.open(source, notice=console.note)
        found = inspect(opened, wanted, image=str(source), or_another=options.platform is None)
    # Without layers there are no files to look at: the command alone tells a known init.
    choice = supervisor_choice(
        None, found.config, None, stop_signal=stop_signal_number(found.config.stop_signal)
    )
    if options.format == "json":
        console.result(as_json(str(source), found, choice))
    else:
        console.result(as_text(str(source), found, choice))
    return 0


def as_text(name: str, found: Inspection, choice: SupervisorChoice) -> str:
    """Return facts, layers and platforms for people."""
    config = found.config
    facts = [
        ("image", name),
        ("digest", str(found.resolved.top_digest)),
        ("manifest", str(found.resolved.manifest_digest)),
        ("platform", str(config.platform or "unknown")),
        ("created", config.created or ""),
        ("size", f"{human_size(found.size_bytes)} to download"),
        ("entrypoint", _words(config.entrypoint)),
        ("cmd", _words(config.cmd)),
        ("user", config.user or "root"),
        ("working dir", config.working_dir or "/"),
        ("stop signal", config.stop_signal or "SIGTERM"),
        ("ports", " ".join(config.exposed_ports)),
        ("volumes", " ".join(config.volumes)),
        ("health check", " ".join(config.healthcheck.test) if config.healthcheck else ""),
        ("pid 1", choice.reason),
    ]
    if choice.halt_hint:
        facts.append(("clean stop", f"set {choice.halt_hint} on the instance"))
    facts += [("env", entry) for entry in config.env]
    layers = [
        (
            str(number),
            layer.digest.encoded[:_SHORT_DIGITS],
            human_size(layer.size_bytes),
            command[:_COMMAND_LENGTH],
        )
        for number, (layer, command) in enumerate(
            zip(found.resolved.manifest.layers, _commands(found), strict=True), start=1
        )
    ]
    parts = [table(("what", "value"), facts), table(("layer", "digest", "size", "made by"), layers)]
    if found.resolved.offers:
        offers = [(str(offer.platform), str(offer.digest)) for offer in found.resolved.offers]
        parts.append(table(("platform", "manifest"), offers))
    return "\n".join(parts)


def as_json(name: str, found: Inspection, choice: SupervisorChoice) -> str:
    """Return the same for programs."""
    return document(
        {
            "image": name,
            "digest": str(found.resolved.top_digest),
            "manifest_digest": str(found.resolved.manifest_digest),
            "platform": str(found.config.platform) if found.config.platform else None,
            "platforms": [
                {
                    "platform": str(offer.platform) if offer.platform else None,
                    "digest": str(offer.digest),
                }
                for offer in found.resolved.offers
            ],
            "size_bytes": found.size_bytes,
            "config": _config_fields(found.config),
            "layers": [
                {
                    "digest": str(layer.digest),
                    "media_type": layer.media_type,
                    "size_bytes": layer.size_bytes,
                    "created_by": command or None,
                }
                for layer, command in zip(
                    found.resolved.manifest.layers, _commands(found), strict=True
                )
            ],
            "supervisor": {
                "mode": choice.mode,
                "reason": choice.reason,
                "instance_setting": choice.halt_hint or None,
            },
        }
    )


def _config_fields(config: ImageConfig) -> dict[str, object]:
    return {
        "created": config.created,
        "env": list(config.env),
        "entrypoint": list(config.entrypoint),
        "cmd": list(config.cmd),
        "user": config.user,
        "working_dir": config.working_dir,
        "stop_signal": config.stop_signal,
        "ports": list(config.exposed_ports),
        "volumes": list(config.volumes),
        "labels": dict(config.labels),
        "healthcheck": _health_fields(config.healthcheck) if config.healthcheck else None,
    }


def _health_fields(check: Healthcheck) -> dict[str, object]:
    return {
        "test": list(check.test),
        "interval_seconds": check.interval_seconds,
        "timeout_seconds": check.timeout_seconds,
        "start_period_seconds": check.start_period_seconds,
        "retries": check.retries,
    }


def _commands(found: Inspection) -> list[str]:
    """Return what made each layer; entries without a layer are left out, missing ones empty."""
    made = [entry.created_by for entry in found.config.history if not entry.empty_layer]
    count = len(found.resolved.manifest.layers)
    return made if len(made) == count else [""] * count


def _words(words: tuple[str, ...]) -> str:
    return " ".join(repr(word) if not word or " " in word else word for word in words)
