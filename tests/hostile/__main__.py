"""The table of attacks and what comes of each: ``python -m tests.hostile [WORD]``.

With ``--json`` one object a line, as the tests read it.
"""

import argparse
import json
import os
import sys
from dataclasses import asdict

from tests.hostile.cases import CASES
from tests.hostile.measurement import measured

_ROW = "{:13} {:48} {:24} {:>6} {:>6} {:>5} {:>5}  {}"


def main() -> int:
    """Meet all cases, or those whose party or name has the word; 1 when one isn't as it must be."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("word", nargs="?", default="")
    options.add_argument("--json", action="store_true")
    options.add_argument("--quick", action="store_true", help="leave out what takes a second each")
    given = options.parse_args()
    chosen = [
        case
        for case in CASES
        if given.word in f"{case.party} {case.name}"
        and (os.geteuid() == 0 or not case.needs_root)
        and not (given.quick and case.is_slow)
    ]
    if not given.json:
        heads = ("party", "attack", "outcome", "cpu s", "<=", "MB", "<=", "")
        print(_ROW.format(*heads))
    bad = 0
    for case in chosen:
        found = measured(case)
        bad += bool(found.problem)
        if given.json:
            print(json.dumps({"case": f"{case.party}: {case.name}", **asdict(found)}))
        else:
            spent = (f"{found.seconds:.2f}", case.most_seconds, f"{found.mb:.0f}", case.most_mb)
            row = (case.party, case.name[:48], found.outcome[:24], *spent, found.problem or "ok")
            print(_ROW.format(*row), flush=True)
    if not given.json:
        print(f"{len(chosen)} attacks, {bad} not as they must be")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
