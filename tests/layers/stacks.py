"""Hypothesis strategies for layer stacks: few names, so that everything meets everything."""

import tarfile

from hypothesis import strategies as st

from tests.layers.model import Stack
from tests.layers.tar_builder import Member, xattr_records

_NAMES = ("a", "b", "c", "d")
_TARGETS = (
    "a", "b", "c", "d", "a/b", "b/a", "../a", "../b", "../../c", "/a", "/b", "/c/d", "/a/b",
    "..", ".", "/", "./b", "nowhere", "/nowhere/x", "c/../b",
)  # fmt: skip
_MTIMES = (1000000000, 1234567890, 1700000001)
_FORMS = ("", "", "", "./", "/", ".//")

paths = st.lists(st.sampled_from(_NAMES), min_size=1, max_size=3).map("/".join)
prefixed = st.tuples(st.sampled_from(_FORMS), paths).map("".join)


@st.composite
def _metadata(draw: st.DrawFn, kind: bytes) -> dict[str, object]:
    seconds = draw(st.sampled_from(_MTIMES))
    records: dict[str, str] = {}
    if draw(st.integers(0, 3)) == 0:
        records["mtime"] = f"{seconds}.{draw(st.sampled_from(('5', '123456789', '000000001')))}"
    if kind in (tarfile.REGTYPE, tarfile.DIRTYPE) and draw(st.integers(0, 4)) == 0:
        names = draw(st.sets(st.sampled_from(("user.a", "user.b", "trusted.c")), min_size=1))
        records |= xattr_records({name: draw(st.binary(min_size=1, max_size=5)) for name in names})
    return {
        "mode": draw(st.sampled_from((0o644, 0o755, 0o700, 0o4755, 0o1777, 0o000))),
        "uid": draw(st.sampled_from((0, 7, 1000, 3000000))),
        "gid": draw(st.sampled_from((0, 8, 4294967294))),
        "mtime": seconds,
        "records": records,
    }


@st.composite
def _named(draw: st.DrawFn, kind: bytes) -> Member:
    content, target, device = b"", "", (0, 0)
    if kind == tarfile.REGTYPE:
        content = draw(st.sampled_from((b"", b"x", b"content", b"z" * 600)))
    elif kind == tarfile.SYMTYPE:
        target = draw(st.sampled_from(_TARGETS))
    elif kind == tarfile.CHRTYPE:
        device = draw(st.sampled_from(((1, 3), (5, 1))))
    elif kind == tarfile.LNKTYPE:
        return Member(name=draw(prefixed), typeflag=kind, target=draw(prefixed), mtime=1000000000)
    metadata = draw(_metadata(kind))
    return Member(
        name=draw(prefixed), typeflag=kind, content=content, target=target, device=device,
        **metadata,  # type: ignore[arg-type]  # drawn above, field by field
    )  # fmt: skip


@st.composite
def _whiteout(draw: st.DrawFn, *, opaque: bool) -> Member:
    directory, _, name = draw(paths).rpartition("/")
    mark = ".wh..wh..opq" if opaque else f".wh.{name}"
    return Member(name=f"{directory}/{mark}" if directory else mark, mtime=1000000000)


@st.composite
def _root(draw: st.DrawFn) -> Member:
    metadata = draw(_metadata(tarfile.DIRTYPE))
    return Member(name="./", typeflag=tarfile.DIRTYPE, **metadata)  # type: ignore[arg-type]  # drawn above


_files = _named(tarfile.REGTYPE)
_directories = _named(tarfile.DIRTYPE)
members = st.one_of(
    _files, _files, _files, _directories, _directories, _directories,
    _named(tarfile.SYMTYPE), _named(tarfile.SYMTYPE),
    _named(tarfile.LNKTYPE), _named(tarfile.LNKTYPE),
    _named(tarfile.FIFOTYPE), _named(tarfile.CHRTYPE),
    _whiteout(opaque=False), _whiteout(opaque=False), _whiteout(opaque=True), _root(),
)  # fmt: skip

stacks: st.SearchStrategy[Stack] = st.lists(
    st.lists(members, max_size=9).map(tuple), min_size=1, max_size=4
).map(tuple)
