"""What an HTML parser finds in a page: elements, their attributes, and what is text."""

from collections.abc import Iterator
from dataclasses import dataclass
from html.parser import HTMLParser

VOID = frozenset({"meta", "link", "input", "img", "br", "hr"})
BLOCKS = frozenset({"dt", "dd", "td", "th", "li", "p", "summary", "caption"})


@dataclass
class Element:
    """An element and the text inside it, that of its children too."""

    name: str
    attributes: dict[str, str]
    text: str = ""


class ReadPage(HTMLParser):
    """Elements in the order of their beginnings. An end tag that doesn't fit is an error."""

    def __init__(self, content: bytes) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[Element] = []
        self._open: list[Element] = []
        self.feed(content.decode())
        self.close()
        assert not self._open, [element.name for element in self._open]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), attrs
        element = Element(tag, {name: value or "" for name, value in attrs})
        self.elements.append(element)
        if tag not in VOID:
            self._open.append(element)

    def handle_endtag(self, tag: str) -> None:
        assert self._open, tag
        assert self._open.pop().name == tag
        if tag in BLOCKS:
            self.handle_data(" ")

    def handle_data(self, data: str) -> None:
        for element in self._open:
            element.text += data

    def named(self, name: str) -> Iterator[Element]:
        """Every element of this name."""
        return (element for element in self.elements if element.name == name)

    def of_class(self, name: str) -> Iterator[Element]:
        """Every element of this class."""
        return (
            element
            for element in self.elements
            if name in element.attributes.get("class", "").split()
        )

    @property
    def text(self) -> str:
        """All text, with single spaces."""
        return " ".join(next(self.named("html")).text.split())

    @property
    def copied(self) -> list[str]:
        """The commands to copy."""
        return [element.text for element in self.elements if "data-copy" in element.attributes]
