"""What a page of ours holds: its tags, words and pictures, and that it needs nothing else."""

import base64
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from io import BytesIO

from PIL import Image

VOID = {"meta", "img", "br", "wbr"}


class Page(HTMLParser):
    """Collects tags and attributes, and checks that every tag is closed by its like."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.words.append(data)

    def text(self) -> str:
        """All words in one line, without the style sheet."""
        return " ".join("".join(self.words).split())

    def of(self, tag: str) -> list[dict[str, str | None]]:
        """Attributes of each tag of a kind."""
        return [attributes for one, attributes in self.tags if one == tag]

    def images(self) -> Iterator[Image.Image]:
        for tag, attributes in self.tags:
            if tag == "img":
                head, _, content = str(attributes["src"]).partition(",")
                assert re.fullmatch(r"data:image/(png|jpeg);base64", head)
                image = Image.open(BytesIO(base64.b64decode(content, validate=True)))
                image.load()
                yield image


def assert_needs_nothing_else(text: str) -> Page:
    page = Page(text)
    assert "url(" not in text and "@import" not in text
    assert not re.search(r"https?://|//[a-z]+\.", re.sub(r'src="data:[^"]*"', "", text))
    assert {tag for tag, _ in page.tags}.isdisjoint({"script", "link", "iframe", "object", "b2"})
    for _, attributes in page.tags:
        assert not any(name.startswith("on") for name in attributes)
        assert str(attributes.get("href") or "#").startswith("#")
    return page
