"""What a tenant may write into a key: good values, near misses, and what breaks parsers. Seeded."""

import json
import random
from collections.abc import Callable

GOOD = (
    *("auto", "notify", "off", "remote", "lxd", "restart"),
    *("10", "0.5", "86400", "1e3", "90s", "30m", "12h", "3d", "1w"),
    *("2026-12-24T18:00Z", "2026-12-24", "2026-12-24T18:00:00.5+01:00"),
    *("Sat,Sun 02:00-05:00 Europe/Berlin", "22:00-03:00; Mon-Fri 12:00-13:00 UTC"),
    *("local|web", "https://images.example:8443|simplestreams|debian/12"),
    *("exec sh -c 'test -e /x'", "tcp 53", "http 8080 /ready", "image", "running"),
    *("purge-cache, warm-up", "db cache", "a" * 12, "1 2 3", "[]", "{}"),
)
EVIL = (
    *("9" * 5000, "99999999999d", "9999999d", "-1", "+1", "1e999", "1e-999", "nan", "NaN", "inf"),
    *(
        "-inf",
        "Infinity",
        "0x10",
        "1_000",
        "\u0663d",
        "\u00b2",
        "\u2460",
        "1\u0660",
        "\u0660\u0662:\u0660\u0660-03:00",
        "1,5",
        "1 h",
    ),
    *("0001-01-01", "0001-01-01T00:00+23:59", "9999-12-31T23:59-23:59", "9999-12-31T23:59:59Z"),
    *("2026-12-24T18:00+99:99", "2026-W01-1", "20261224T18", "2026-02-30", "24:00-24:00"),
    *("\0", "\ud800", "a\ud800b", "\u202e", "\u2028", "\n" * 200, " " * 5000, "'", '"', "\\"),
    *(
        "exec '",
        'exec "',
        "http 8080/health",
        "http \u0668\u0660",
        "tcp 0",
        f"tcp {'9' * 5000}",
        "exec",
    ),
    *("[" * 50000, "[" * 50000 + "]" * 50000, '{"a":' * 20000, '"' + '\\"' * 20000),
    *("|", "||", "|||", "local|", "|a|b", "https://[|simplestreams|x", "a|b|c|d"),
    *(";" * 3000, ",", "Mon-", "-", "00:00-00:00 ../../etc/passwd", "00:00-01:00 " + "Z" * 5000),
    *("00:00-01:00 Europe", "00:00-01:00 tzdata.zi", "00:00-01:00 \0", "00:00-01:00 \ud800"),
    *(", ".join(f"n{number}" for number in range(5000)), "a" * 100_000, "😀" * 3000),
)
_WHOLE: tuple[Callable[[random.Random], object], ...] = (
    lambda draw: draw.choice([None, True, False, 0, -1, 1e308, 10**30, "", [], {}]),
    lambda draw: draw.choice(GOOD),
    lambda draw: [_value(draw) for _ in range(draw.randrange(4))],
    lambda draw: {draw.choice(GOOD): _value(draw) for _ in range(draw.randrange(4))},
)


def hostile_text(draw: random.Random) -> str:
    """Return one value; most are a good one with something wrong in it."""
    kind = draw.randrange(6)
    if kind == 0:
        return draw.choice(EVIL)
    if kind == 1:
        return draw.choice(GOOD)
    if kind == 2:
        return "".join(chr(_code(draw)) for _ in range(draw.randrange(40)))
    if kind == 3:
        return draw.choice(GOOD) + draw.choice(("", " ", ";", ",", "|")) + draw.choice(EVIL)[:400]
    text = draw.choice(GOOD)
    place = draw.randrange(len(text) + 1)
    return text[:place] + draw.choice(("", *EVIL))[:50] + text[place + draw.randrange(3) :]


def hostile_json(draw: random.Random, good: str) -> str:
    """Return a JSON document with something wrong in it: types, numbers, depth, its end."""
    document = json.loads(good)
    for _ in range(draw.randrange(3)):
        key = draw.choice([*document, "unheard-of"])
        if draw.random() < 0.3:
            document.pop(key, None)
        else:
            document[key] = _value(draw)
    text = json.dumps(document)
    place = draw.randrange(len(text) + 1)
    if draw.random() < 0.3:
        return text[:place] + draw.choice(EVIL)[:2000] + text[place + draw.randrange(9) :]
    return text[:place] if draw.random() < 0.1 else text


def _value(draw: random.Random) -> object:
    return draw.choice(_WHOLE)(draw)


def _code(draw: random.Random) -> int:
    return draw.choice(
        (draw.randrange(128), draw.randrange(0x3000), draw.randrange(0x110000), 0xD800)
    )
