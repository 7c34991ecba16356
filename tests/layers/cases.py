"""The 108 layer stacks that decide how layers merge, as data: entries in, tree out.

Groups: W whiteouts, O opaque directories, M replacing and metadata, H hard links, S unsafe names
and links. ``tree`` reads ``f:content``, ``d``, ``l:target``, ``c:major,minor``, ``b:...``, ``p``;
``same`` lists names of one inode; ``attributes`` lists what else must hold. A case with ``error``
must fail with that class. Where the image specification leaves a choice between an error and a
tree, the case holds what this project chose; the reasons stand beside the surprising ones.

``@HOST@`` stands for a directory of this machine that must never change.
"""

from dataclasses import dataclass, field

from lxdocker_lxd.convert.layer.errors import (
    CorruptArchiveError,
    LayerError,
    UnsafeLinkError,
    UnsafeNameError,
)
from tests.layers.tar_builder import (
    END,
    Part,
    Raw,
    archive,
    block,
    char,
    d,
    f,
    fifo,
    hard,
    link,
    pax_member,
    raw_header,
    xattr_records,
)

UP = "../" * 20


@dataclass(frozen=True, slots=True)
class Layer:
    """The parts of one archive; without ``end`` it has no end marker."""

    parts: tuple[Part, ...]
    end: bool = True

    def rendered(self) -> bytes:
        return archive(*self.parts, end=self.end)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    name: str
    layers: tuple[Layer, ...]
    tree: dict[str, str] = field(default_factory=dict)
    same: tuple[str, ...] = ()
    attributes: dict[str, dict[str, object]] = field(default_factory=dict)
    error: type[LayerError] | None = None
    umoci_agrees: bool = True
    """False where Debian's umoci 0.4.7 fails or errs; where we raise, it is not asked."""


CASES: list[Case] = []


def case(
    name: str,
    *layers: Layer,
    tree: str = "",
    same: tuple[str, ...] = (),
    attributes: dict[str, dict[str, object]] | None = None,
    error: type[LayerError] | None = None,
    umoci_agrees: bool = True,
) -> None:
    expected = dict(item.split("=", 1) for item in tree.split())
    CASES.append(
        Case(
            name=name,
            layers=layers,
            tree=expected,
            same=same,
            attributes=attributes or {},
            error=error,
            umoci_agrees=umoci_agrees,
        ),
    )


def layer(*parts: Part) -> Layer:
    return Layer(parts)


CAPABILITY = b"\x01\x00\x00\x02\x00\x04" + bytes(14)
LONG = "n" * 100
LONG_DIRECTORY = f"{LONG}/{LONG}"

# --- whiteouts ------------------------------------------------------------------------------------
case("W01-file", layer(f("a"), f("b")), layer(f(".wh.a", "")), tree="b=f:x")
case(
    "W02-dir",
    layer(d("b/"), f("b/x"), f("k")),
    layer(f(".wh.b", "")),
    tree="k=f:x",
)
case(
    "W03-nested",
    layer(d("d/"), f("d/f"), f("d/g")),
    layer(f("d/.wh.f", "")),
    tree="d=d d/g=f:x",
)
case(
    "W04-nonexistent",
    layer(f("k")),
    layer(f(".wh.nope", ""), f("no/dir/.wh.z", "")),
    tree="k=f:x",
)
case(
    "W05-wh-then-readd", layer(f("a", "old")), layer(f(".wh.a", ""), f("a", "new")), tree="a=f:new"
)
case(
    "W06-readd-then-wh", layer(f("a", "old")), layer(f("a", "new"), f(".wh.a", "")), tree="a=f:new"
)
case(
    "W07-dir-wh-first-recreate",
    layer(d("d/"), f("d/old")),
    layer(f(".wh.d", ""), d("d/"), f("d/new")),
    tree="d=d d/new=f:x",
)
case(
    "W08-dir-wh-last-recreate",
    layer(d("d/"), f("d/old")),
    layer(d("d/"), f("d/new"), f(".wh.d", "")),
    tree="d=d d/new=f:x",
)
case(
    "W09-third-layer-readd",
    layer(f("a", "1")),
    layer(f(".wh.a", "")),
    layer(f("a", "3")),
    tree="a=f:3",
)
case(
    "W10-dir-gone-then-child",
    layer(d("d/"), f("d/old")),
    layer(f(".wh.d", "")),
    layer(d("d/"), f("d/x")),
    tree="d=d d/x=f:x",
)
case("W11-same-layer-only", layer(f("a"), f(".wh.a", "")), tree="a=f:x")
case(
    "W12-symlink-not-target",
    layer(d("t/"), f("t/f"), link("s", "t")),
    layer(f(".wh.s", "")),
    tree="t=d t/f=f:x",
)
case(
    "W13-via-symlink-parent",
    layer(d("real/"), f("real/f"), f("real/g"), link("link", "real")),
    layer(f("link/.wh.f", "")),
    tree="real=d real/g=f:x link=l:real",
)
case(
    "W14-via-abs-symlink-host",
    layer(link("link", "@HOST@")),
    layer(f("link/.wh.canary", "")),
    tree="link=l:@HOST@",
)
case("W15-empty-name", layer(f("k")), layer(f(".wh.", "")), error=UnsafeNameError)
case("W16-dir-typed-whiteout", layer(f("a"), f("k")), layer(d(".wh.a/")), tree="k=f:x")
case(
    "W17-dotdot-whiteout",
    layer(d("d/"), f("d/f"), f("k")),
    layer(f("d/.wh...", "")),
    error=UnsafeNameError,
    umoci_agrees=False,
)
case(
    "W18-dot-whiteout",
    layer(d("d/"), f("d/f"), f("k")),
    layer(f("d/.wh..", "")),
    error=UnsafeNameError,
)
case(
    "W19-root-dotdot-whiteout",
    layer(f("k")),
    layer(f(".wh...", "")),
    error=UnsafeNameError,
    umoci_agrees=False,
)
case(
    "W20-aufs-meta",
    layer(f("k")),
    layer(f(".wh..wh.aufs", ""), d(".wh..wh.plnk/"), d(".wh..wh.orph/"), f("n")),
    tree="k=f:x n=f:x",
)
case(
    "W21-opq-lookalike-child",
    layer(d("a/"), f("a/f"), d("a/sub/"), f("a/sub/g")),
    layer(f("a/sub/.wh.g", ""), f("a/.wh.f", "")),
    tree="a=d a/sub=d",
)

# --- opaque directories ---------------------------------------------------------------------------
_OPQ = ".wh..wh..opq"
_ABC = layer(d("a/"), d("a/b/"), d("a/b/c/"), f("a/b/c/bar"))
_FOO = "a=d a/b=d a/b/c=d a/b/c/foo=f:x"
case(
    "O01-first",
    _ABC,
    layer(d("a/"), f(f"a/{_OPQ}", ""), d("a/b/"), d("a/b/c/"), f("a/b/c/foo")),
    tree=_FOO,
)
case(
    "O02-last",
    _ABC,
    layer(d("a/"), d("a/b/"), d("a/b/c/"), f("a/b/c/foo"), f(f"a/{_OPQ}", "")),
    tree=_FOO,
)
case("O03-last-noparents", _ABC, layer(f("a/b/c/foo"), f(f"a/{_OPQ}", "")), tree=_FOO)
case(
    "O04-two-lowers",
    layer(d("a/"), f("a/1")),
    layer(f("a/2")),
    layer(d("a/"), f(f"a/{_OPQ}", ""), f("a/3")),
    tree="a=d a/3=f:x",
)
case(
    "O05-then-upper-child",
    layer(d("a/"), f("a/1")),
    layer(d("a/"), f(f"a/{_OPQ}", "")),
    layer(f("a/3")),
    tree="a=d a/3=f:x",
)
case(
    "O06-root",
    layer(f("old"), d("od/"), f("od/x")),
    layer(f(_OPQ, ""), f("new")),
    tree="new=f:x",
)
case(
    "O07-lower-is-file",
    layer(f("a")),
    layer(d("a/"), f(f"a/{_OPQ}", ""), f("a/x")),
    tree="a=d a/x=f:x",
)
case("O08-nonexistent-dir", layer(f("k")), layer(f(f"q/{_OPQ}", "")), tree="k=f:x")
case(
    "O09-opq-and-explicit",
    layer(d("a/"), f("a/1"), f("a/2")),
    layer(f("a/.wh.1", ""), f(f"a/{_OPQ}", ""), f("a/3")),
    tree="a=d a/3=f:x",
)
case(
    "O10-keeps-dir-attrs",
    layer(d("a/", mode=0o700, uid=7, gid=8), f("a/1")),
    layer(f(f"a/{_OPQ}", "")),
    tree="a=d",
    attributes={"a": {"mode": 0o700, "uid": 7, "gid": 8}},
)
case(
    "O11-readd-same-name",
    layer(d("a/"), f("a/1", "old")),
    layer(f("a/1", "new"), f(f"a/{_OPQ}", "")),
    tree="a=d a/1=f:new",
)
case(
    "O12-opq-does-not-hide-upper",
    layer(d("a/"), f("a/1")),
    layer(d("a/"), f(f"a/{_OPQ}", ""), f("a/2")),
    layer(f("a/3")),
    layer(f("a/.wh.2", "")),
    tree="a=d a/3=f:x",
)
case(
    "O13-via-symlink-parent",
    layer(d("real/"), f("real/f"), link("link", "real")),
    layer(f(f"link/{_OPQ}", "")),
    tree="real=d link=l:real",
)

# --- replacing, metadata, name forms --------------------------------------------------------------
case(
    "M01-dir-meta",
    layer(d("d/", mode=0o755), f("d/f")),
    layer(d("d/", mode=0o700, uid=3, gid=4, mtime=1222222222)),
    tree="d=d d/f=f:x",
    attributes={"d": {"mode": 0o700, "uid": 3, "gid": 4, "mtime_ns": 1222222222 * 10**9}},
)
case(
    "M02-file-replace",
    layer(f("a", "old", mode=0o4755, uid=1, records=xattr_records({"user.old": b"1"}))),
    layer(f("a", "new", mode=0o600, uid=2)),
    tree="a=f:new",
    attributes={"a": {"mode": 0o600, "uid": 2, "xattrs": ()}},
)
case("M03-file-to-dir", layer(f("a")), layer(d("a/"), f("a/b")), tree="a=d a/b=f:x")
case(
    "M04-dir-to-file",
    layer(d("a/"), f("a/b"), d("a/c/"), f("a/c/e")),
    layer(f("a", "file")),
    tree="a=f:file",
)
case(
    "M05-dir-to-symlink",
    layer(d("a/"), f("a/b"), d("t/"), f("t/z")),
    layer(link("a", "t")),
    tree="a=l:t t=d t/z=f:x",
)
case(
    "M06-symlink-to-dir-explicit",
    layer(d("t/"), f("t/z"), link("a", "t")),
    layer(d("a/"), f("a/b")),
    tree="a=d a/b=f:x t=d t/z=f:x",
)
case(
    "M07-symlink-to-file",
    layer(f("t", "target"), link("a", "t")),
    layer(f("a", "new")),
    tree="a=f:new t=f:target",
)
case(
    "M08-file-to-symlink",
    layer(f("a"), f("t", "T")),
    layer(link("a", "t")),
    tree="a=l:t t=f:T",
)
case("M09-file-to-fifo", layer(f("a")), layer(fifo("a")), tree="a=p")
case(
    "M10-dir-xattr-replaced",
    layer(d("d/", records=xattr_records({"user.old": b"1"}))),
    layer(d("d/", records=xattr_records({"user.new": b"2"}))),
    tree="d=d",
    attributes={"d": {"xattrs": ((b"user.new", b"2"),)}},
)
case(
    "M11-abs-symlink-parent-implicit",
    layer(d("run/"), d("var/"), link("var/run", "/run")),
    layer(f("var/run/x")),
    tree="run=d run/x=f:x var=d var/run=l:/run",
)
case(
    "M12-rel-symlink-parent-implicit",
    layer(d("run/"), d("var/"), link("var/run", "../run")),
    layer(f("var/run/x")),
    tree="run=d run/x=f:x var=d var/run=l:../run",
)
case(
    "M13-symlink-parent-explicit-dir",
    layer(d("run/"), f("run/o"), d("var/"), link("var/run", "../run")),
    layer(d("var/run/"), f("var/run/x")),
    tree="run=d run/o=f:x var=d var/run=d var/run/x=f:x",
)
case(
    "M14-noparents",
    layer(f("a/b/c")),
    tree="a=d a/b=d a/b/c=f:x",
    attributes={"a": {"mode": 0o755, "uid": 0}, "a/b": {"mode": 0o755}},
)
case(
    "M15-noparents-over-file",
    layer(f("a")),
    layer(f("a/b")),
    tree="a=d a/b=f:x",
    umoci_agrees=False,
)
case(
    "M16-dir-after-children",
    layer(f("d/x"), d("d/", mode=0o500)),
    tree="d=d d/x=f:x",
    attributes={"d": {"mode": 0o500, "mtime_ns": 1111111111 * 10**9}},
)
case("M17-dup-file-last-wins", layer(f("a", "1"), f("a", "2")), tree="a=f:2")
case("M18-dup-file-then-dir", layer(f("a"), d("a/"), f("a/b")), tree="a=d a/b=f:x")
case("M19-dup-dir-then-file", layer(d("a/"), f("a/b"), f("a", "2")), tree="a=f:2")
case(
    "M20-name-forms",
    layer(d("./"), f("./a"), f("/b"), f(".//c"), d("./d/"), f("d/./e")),
    tree="a=f:x b=f:x c=f:x d=d d/e=f:x",
)
case(
    "M21-dup-forms",
    layer(f("a", "1"), f("d/x", "1")),
    layer(f("./a", "2"), f("/d/x", "2")),
    tree="a=f:2 d=d d/x=f:2",
)
case(
    "M22-mtime-ns",
    layer(
        f("a", records={"mtime": "1000000000.123456789"}),
        f("old", records={"mtime": "-86400"}),
        f("far", records={"mtime": "9999999999"}),
    ),
    tree="a=f:x old=f:x far=f:x",
    attributes={
        "a": {"mtime_ns": 1000000000123456789},
        "old": {"mtime_ns": -86400 * 10**9},
        "far": {"mtime_ns": 9999999999 * 10**9},
    },
    # Agrees, but our stream holds times back to what squashfs takes.
    umoci_agrees=False,
)
case(
    "M23-big-ids",
    layer(f("a", uid=2097152, gid=4294967294), f("b"), f("g", uid=3000000)),
    tree="a=f:x b=f:x g=f:x",
    attributes={"a": {"uid": 2097152, "gid": 4294967294}, "g": {"uid": 3000000}},
)
case(
    "M24-long-names",
    layer(f(f"{LONG}/{LONG}/{LONG}/f"), f(f"{LONG}x"), link("ls", f"{LONG}/{LONG}")),
    tree=(
        f"{LONG}=d {LONG_DIRECTORY}=d {LONG_DIRECTORY}/{LONG}=d"
        f" {LONG_DIRECTORY}/{LONG}/f=f:x {LONG}x=f:x ls=l:{LONG_DIRECTORY}"
    ),
)
case(
    "M25-nonutf8",
    layer(f("caf\udce9"), f("café"), f("bin\udcff\udcfe")),
    tree="caf\udce9=f:x café=f:x bin\udcff\udcfe=f:x",
)
case(
    "M26-suid",
    layer(f("s", mode=0o4755, uid=5), f("g", mode=0o2755), d("t/", mode=0o1777)),
    tree="s=f:x g=f:x t=d",
    attributes={"s": {"mode": 0o4755, "uid": 5}, "g": {"mode": 0o2755}, "t": {"mode": 0o1777}},
)
case(
    "M27-capability",
    layer(f("p", uid=5, records=xattr_records({"security.capability": CAPABILITY}))),
    tree="p=f:x",
    attributes={"p": {"uid": 5, "xattrs": ((b"security.capability", CAPABILITY),)}},
)
case(
    "M28-devices",
    layer(char("c", 1, 3, mode=0o666), block("b", 7, 0, mode=0o660), fifo("p")),
    tree="c=c:1,3 b=b:7,0 p=p",
)
case("M29-empty-layer", layer(f("a")), layer(), layer(f("b")), tree="a=f:x b=f:x")
case("M30-zero-byte-layer", layer(f("a")), Layer((), end=False), layer(f("b")), tree="a=f:x b=f:x")
case("M31-trailing-garbage", Layer((f("a"), END, Raw(b"garbage" * 200)), end=False), tree="a=f:x")
case("M32-no-eof-blocks", Layer((f("a"),), end=False), tree="a=f:x")
case(
    "M33-readonly-dir",
    layer(d("ro/", mode=0o555), f("ro/a", mode=0o444)),
    layer(f("ro/b")),
    tree="ro=d ro/a=f:x ro/b=f:x",
    attributes={"ro": {"mode": 0o555}},
)
case(
    "M34-root-entry",
    layer(d("./", mode=0o711, uid=9), f("a")),
    tree="a=f:x",
    attributes={".": {"mode": 0o711, "uid": 9}},
)
case(
    "M35-pax-global",
    layer(
        Raw(pax_member(b"52 comment=0123456789012345678901234567890123456789\n", typeflag=b"g")),
        f("a"),
    ),
    tree="a=f:x",
    umoci_agrees=False,
)
case(
    "M36-parent-mtime-kept",
    layer(d("d/"), f("d/a")),
    layer(f("d/b")),
    tree="d=d d/a=f:x d/b=f:x",
    attributes={"d": {"mtime_ns": 1111111111 * 10**9}},
)
case(
    "M37-type7-contig",
    layer(Raw(raw_header(b"a", typeflag=b"7", size=1) + b"x".ljust(512, b"\0")), f("o")),
    tree="a=f:x o=f:x",
    umoci_agrees=False,
)
case("M38-wh-prefixed-middle", layer(d("d/"), f("d/a.wh.b")), tree="d=d d/a.wh.b=f:x")
case(
    "M39-child-of-whiteout-named-dir",
    layer(f("k")),
    layer(d(".wh.dir/"), f(".wh.dir/f")),
    error=UnsafeNameError,
    umoci_agrees=False,
)
case(
    "M40-upper-dir-entry-only-in-lower-parents",
    layer(d("u/", mode=0o755), d("u/l/", mode=0o700, uid=3)),
    layer(f("u/l/x")),
    tree="u=d u/l=d u/l/x=f:x",
    attributes={"u/l": {"mode": 0o700, "uid": 3}},
)

# --- hard links -----------------------------------------------------------------------------------
_BOTH = "a=f:D b=f:D"
case("H01-same-layer", layer(f("a", "D"), hard("b", "a")), tree=_BOTH, same=("a b",))
case("H02-to-lower", layer(f("a", "D")), layer(hard("b", "a")), tree=_BOTH, same=("a b",))
case(
    "H03-to-lower-then-wh-target",
    layer(f("a", "D")),
    layer(hard("b", "a")),
    layer(f(".wh.a", "")),
    tree="b=f:D",
)
case(
    "H04-modify-one",
    layer(f("a", "old"), hard("b", "a")),
    layer(f("a", "new")),
    tree="a=f:new b=f:old",
)
case(
    "H05-wh-first-name",
    layer(f("a", "D"), hard("b", "a"), hard("c", "a")),
    layer(f(".wh.a", "")),
    tree="b=f:D c=f:D",
    same=("b c",),
)
# Every tool stops here; waiting until the end of the layer costs nothing and is unambiguous.
case(
    "H06-forward-ref-no-lower",
    layer(hard("b", "a"), f("a", "D")),
    tree=_BOTH,
    same=("a b",),
    umoci_agrees=False,
)
case(
    "H07-to-symlink",
    layer(f("t", "T"), link("s", "t"), hard("h", "s")),
    tree="t=f:T s=l:t h=l:t",
)
case(
    "H08-target-via-symlink-dir",
    layer(d("real/"), f("real/f", "D"), link("s", "real")),
    layer(hard("h", "s/f")),
    tree="real=d real/f=f:D s=l:real h=f:D",
    same=("real/f h",),
)
case(
    "H09-abs-and-dot-target",
    layer(f("a", "D"), hard("b", "/a"), hard("c", "./a")),
    tree="a=f:D b=f:D c=f:D",
    same=("a b c",),
)
case(
    "H10-dotdot-target",
    layer(f("k")),
    layer(hard("h", f"{UP}@HOST@/canary")),
    error=UnsafeLinkError,
)
case(
    "H11-via-symlink-to-host",
    layer(link("s", "@HOST@"), f("k")),
    layer(hard("h", "s/canary")),
    error=UnsafeLinkError,
)
case("H12-to-dir", layer(d("d/"), hard("h", "d"), f("k")), error=UnsafeLinkError)
case(
    "H13-replace-existing",
    layer(f("a", "A"), f("b", "B")),
    layer(hard("b", "a")),
    tree="a=f:A b=f:A",
    same=("a b",),
)
case(
    "H14-chain-then-wh",
    layer(f("a", "D")),
    layer(hard("b", "a")),
    layer(hard("c", "b")),
    layer(f(".wh.a", ""), f(".wh.b", "")),
    tree="c=f:D",
)
# Nothing unsafe about a name linked to itself: it changes nothing.
case("H15-self-link", layer(f("a", "D"), hard("a", "a")), tree="a=f:D", umoci_agrees=False)
case(
    "H16-lower-target-replaced-same-layer-after",
    layer(f("a", "old")),
    layer(hard("b", "a"), f("a", "new")),
    tree="a=f:new b=f:old",
)
case(
    "H17-lower-target-replaced-same-layer-before",
    layer(f("a", "old")),
    layer(f("a", "new"), hard("b", "a")),
    tree="a=f:new b=f:new",
    same=("a b",),
)
case(
    "H18-upper-readd-target-not-linked",
    layer(f("a", "old"), hard("b", "a")),
    layer(f(".wh.b", ""), f("b", "nb")),
    tree="a=f:old b=f:nb",
)
case(
    "H19-parent-dir-whiteout",
    layer(d("d/"), f("d/a", "D"), hard("b", "d/a")),
    layer(f(".wh.d", "")),
    tree="b=f:D",
)
case(
    "H20-opaque-target",
    layer(d("d/"), f("d/a", "D"), hard("b", "d/a")),
    layer(d("d/"), f(f"d/{_OPQ}", "")),
    tree="b=f:D d=d",
)
case(
    "H21-link-to-lower-in-whited-dir",
    layer(d("d/"), f("d/a", "D")),
    layer(hard("b", "d/a"), f(".wh.d", "")),
    tree="b=f:D",
)
# Tools disagree whether a link's own mode and owner count; here they don't (GNU tar, umoci).
case(
    "H22-link-meta",
    layer(f("a", "D", mode=0o644), hard("b", "a", mode=0o600, uid=9)),
    tree=_BOTH,
    same=("a b",),
    attributes={"a": {"mode": 0o644, "uid": 0}, "b": {"mode": 0o644, "uid": 0}},
)
# Readers disagree whether the data is there, so one archive could show two trees.
case(
    "H23-with-data",
    layer(f("a", "D"), hard("b", "a", content=b"D"), f("k")),
    error=CorruptArchiveError,
)

# --- unsafe names and links -----------------------------------------------------------------------
case("S01-dotdot", layer(f("../../evil"), f("k")), error=UnsafeNameError)
case("S02-symlink-write-same-layer", layer(link("x", "@HOST@"), f("x/evil")), error=UnsafeLinkError)
case(
    "S03-symlink-write-next-layer",
    layer(link("x", "@HOST@")),
    layer(f("x/evil")),
    error=UnsafeLinkError,
)
case(
    "S04-symlink-dotdot-write",
    layer(link("x", f"{UP}@HOST@"), f("x/evil")),
    error=UnsafeLinkError,
)
case("S05-root-symlink", layer(link("./", "@HOST@"), f("evil", "E")), error=UnsafeNameError)
case(
    "S06-root-symlink-next-layer",
    layer(link(".", "@HOST@")),
    layer(f("evil", "E")),
    error=UnsafeNameError,
)
case(
    "S07-loop",
    layer(link("a", "b"), link("b", "a")),
    layer(f("a/x")),
    error=UnsafeLinkError,
)
case(
    "S08-overwrite-via-symlink-file",
    layer(link("x", "@HOST@/canary")),
    layer(f("x", "E")),
    tree="x=f:E",
)
case(
    "S09-chmod-via-symlink",
    layer(link("x", "@HOST@/canary", mode=0o777)),
    tree="x=l:@HOST@/canary",
)
case(
    "S10-opq-via-host-symlink",
    layer(link("x", "@HOST@")),
    layer(f(f"x/{_OPQ}", "")),
    tree="x=l:@HOST@",
)
case(
    "S11-hardlink-then-write", layer(hard("h", "@HOST@/canary"), f("h", "E")), error=UnsafeLinkError
)
