"""A bundle's README as HTML that needs no other file."""

from __future__ import annotations

import posixpath
import re
from base64 import b64encode
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

from bonemonai.sharing.bundle_files import README

_PICTURES = {".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg"}


@dataclass(frozen=True)
class ReadmePage:
    """A README, rendered.

    Args:
        body: HTML, without the title.
        sections: anchor and text of each heading of the second level.
    """

    body: str
    sections: list[tuple[str, str]]


def render_readme(text: str, files: Mapping[str, Path], pages: Mapping[str, str]) -> ReadmePage:
    """Render a README.

    HTML in it is shown, not used. Links to the documents of a bundle whose page is written lead to that page, links
    within the page and to other sites stay, what else they would lead to is not there: of such, the text stays.
    Pictures of the bundle are put into the page.

    Args:
        text: Markdown, with tables.
        files: of the bundle.
        pages: name of a bundle to the address of its page.
    """
    markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = _without_title(markdown.parse(text))
    sections = _name_headings(tokens)
    anchors = {str(token.attrs["id"]) for token in tokens if "id" in token.attrs}
    for token in tokens:
        token.children = list(_linked(token.children or [], files, pages, anchors)) or token.children
    return ReadmePage(markdown.renderer.render(tokens, markdown.options, {}), sections)


def _without_title(tokens: list[Token]) -> list[Token]:
    is_title = bool(tokens) and tokens[0].type == "heading_open" and tokens[0].tag == "h1"
    return tokens[3:] if is_title else tokens


def _name_headings(tokens: list[Token]) -> list[tuple[str, str]]:
    """Give headings anchors as GitHub names them, and return those of the second level."""
    found, seen = [], dict[str, int]()
    for opening, inline in pairwise(tokens):
        if opening.type != "heading_open":
            continue
        title = "".join(child.content for child in inline.children or [])
        slug = re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
        seen[slug] = seen.get(slug, -1) + 1
        anchor = f"{slug}-{seen[slug]}" if seen[slug] else slug
        opening.attrSet("id", anchor)
        if opening.tag == "h2":
            found.append((anchor, title))
    return found


def _linked(
    children: list[Token], files: Mapping[str, Path], pages: Mapping[str, str], anchors: set[str]
) -> Iterator[Token]:
    is_kept: list[bool] = []  # of the links that are open
    for token in children:
        if token.type == "link_open":
            address = _address(str(token.attrs.get("href", "")), pages, anchors)
            token.attrSet("href", address)
            is_kept.append(bool(address))
        if token.type == "image":
            token = _picture(token, files)
        if not token.type.startswith("link_") or is_kept[-1]:
            yield token
        if token.type == "link_close":
            is_kept.pop()


def _address(target: str, pages: Mapping[str, str], anchors: set[str]) -> str:
    """Where a link leads from the page; empty where that is nowhere."""
    if re.match(r"https?://|mailto:", target):
        return target
    path, _, anchor = target.partition("#")
    if not path:
        return target if anchor in anchors else ""
    # from bundles/NAME/docs, seen from the folder of bundles
    parts = posixpath.normpath(posixpath.join("NAME/docs", path)).split("/")
    return pages.get(parts[0], "") if parts[1:] == README.split("/") else ""


def _picture(token: Token, files: Mapping[str, Path]) -> Token:
    name = posixpath.normpath(posixpath.join("docs", str(token.attrs.get("src", ""))))
    kind = _PICTURES.get(posixpath.splitext(name)[1].lower())
    if kind is None or name not in files:
        return Token("text", "", 0, content=token.content)
    token.attrSet("src", f"data:{kind};base64,{b64encode(files[name].read_bytes()).decode()}")
    return token
