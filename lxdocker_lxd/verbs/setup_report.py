"""What ``setup`` shows: the plan before, the outcome after; for people and as JSON."""

from collections.abc import Iterable

from lxdocker_lxd.console import document, table
from lxdocker_lxd.setup.item import Item
from lxdocker_lxd.setup.plan import Plan, Step, TakeBack
from lxdocker_lxd.setup.run import Prepared

_ACTIONS = {
    "already": "already",
    "create": "create",
    "change": "change",
    "confirm": "record",
    "leave": "leave",
}


def plan_text(found: Prepared) -> str:
    """Return a plan for people."""
    lxd, steps = found.facts.lxd, found.plan
    where = f"{lxd.product} {lxd.version}, {lxd.place}" if lxd.product else lxd.place
    head = f"{where}; images at {found.target.endpoint.url}\n\n"
    rows = [(_ACTIONS[step.action], step.item.text, step.item.reason) for step in steps.steps]
    remarks = "".join(f"note: {remark}\n" for remark in steps.remarks)
    return head + table(("action", "what", "why"), rows) + (f"\n{remarks}" if remarks else "")


def plan_json(found: Prepared, result: str) -> dict[str, object]:
    """Return a plan, and what became of it, for programs."""
    lxd, steps = found.facts.lxd, found.plan
    return {
        "result": result,
        "lxd": {
            "place": lxd.place,
            "packaging": lxd.packaging,
            "product": lxd.product,
            "version": lxd.version,
        },
        "url": found.target.endpoint.url,
        "addresses": list(found.target.endpoint.addresses),
        "steps": list(_steps_json(steps)),
        "remarks": list(steps.remarks),
    }


def _steps_json(found: Plan) -> Iterable[dict[str, object]]:
    for step in found.steps:
        item = step.item
        yield {
            "action": _ACTIONS[step.action],
            "kind": item.kind,
            "name": item.name,
            "what": item.text,
            "why": item.reason,
            "before": None if step.before is None else dict(step.before),
            "after": dict(item.wanted),
            "undo": _undo_of(item, step),
        }


def _undo_of(item: Item, step: Step) -> str:
    if not step.changes:
        return ""
    return f"remove the {item.kind}" if step.before is None else "bring back what was before"


def undo_text(backs: Iterable[TakeBack], form: str) -> str:
    """Return what undo will do."""
    words = {
        "take": "take back",
        "gone": "gone already",
        "leave": "leave: changed since",
        "drop": "leave: its user is gone",
        "keep": "leave: can't be looked at",
    }
    if form == "json":
        rows = [
            {"action": back.action, "kind": back.record.kind, "name": back.record.name}
            for back in backs
        ]
        return document({"undo": rows})
    return table(("action", "what"), [(words[back.action], back.record.text) for back in backs])
