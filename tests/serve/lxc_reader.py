"""LXC's side of a ``config``, written from confile.c, string_utils.c and the template lxc-download."""

import io
import lzma
import tarfile

BLANKS = " \t\n\r\v\f"


def created(text: str, *, name: str = "c1", path: str = "/var/lib/lxc/c1") -> str:
    """What lxc-create makes of the words it replaces, with sed, line by line."""
    words = {
        "LXC_NAME": name,
        "LXC_PATH": path,
        "LXC_ROOTFS": f"{path}/rootfs",
        "LXC_TEMPLATE_CONFIG": "/usr/share/lxc/config",
        "LXC_HOOK_DIR": "/usr/share/lxc/hooks",
    }
    for word, value in words.items():
        text = text.replace(word, value)
    return text


def parsed(text: str) -> list[tuple[str, str]]:
    """Keys and values as liblxc's parse_line reads them; a NUL ends everything."""
    pairs = []
    for raw in text.split("\0", maxsplit=1)[0].split("\n"):
        line = raw.lstrip(BLANKS)
        if line.startswith("#") or not line.startswith("lxc."):
            assert not line or line.startswith("#"), f"a line of no meaning: {line!r}"
            continue
        key, equals, value = line.partition("=")
        assert equals, line
        value = value.strip(BLANKS)
        if len(value) > 1 and value[0] in "\"'" and value[-1] == value[0]:
            value = value[1:-1]
        pairs.append((key.rstrip(BLANKS), value))
    return pairs


def values(pairs: list[tuple[str, str]], key: str) -> list[str]:
    """All values of one key."""
    return [value for found, value in pairs if found == key]


def split_blanks(line: str) -> list[str]:
    """``lxc.init.cmd`` of LXC 5: words between blanks, quotes count for nothing."""
    return [word for word in line.split(" ") if word]


def split_quoted(line: str) -> list[str]:
    """``lxc.execute.cmd``: a quote at a word's beginning goes to the next of its kind."""
    words: list[str] = []
    state, start = " ", 0
    for at, character in enumerate(line):
        if state == " ":
            if character in BLANKS:
                continue
            state, start = (character if character in "\"'" else "a"), at
        elif state == "a":
            if character in BLANKS:
                words.append(line[start:at])
                state = " "
        elif character == state:
            words.append(line[start + 1 : at])
            state = " "
    if state == "a":
        words.append(line[start:])
    return words


def members(archive: bytes) -> dict[str, str]:
    """The files of a ``meta.tar.xz``."""
    with tarfile.open(fileobj=io.BytesIO(lzma.decompress(archive))) as tar:
        found = {}
        for member in tar.getmembers():
            content = tar.extractfile(member)
            assert content is not None
            assert "/" not in member.name
            found[member.name] = content.read().decode()
        return found
