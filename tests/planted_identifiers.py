"""Search files, and what is packed in them, for identifiers that a test has planted."""

from __future__ import annotations

import base64
import gzip
import html
import io
import json
import re
import tarfile
import zipfile
import zlib
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from numcodecs import Zstd

_ZSTD, _GZIP, _PNG = b"\x28\xb5\x2f\xfd", b"\x1f\x8b", b"\x89PNG\r\n\x1a\n"
_DATA_URL = re.compile(rb"data:[\w/+.;=-]+;base64,([A-Za-z0-9+/=]+)")
_DEEPEST = 6  # containers within containers


class Leak(NamedTuple):
    """Where an identifier was found.

    Args:
        where: file, and what it holds, parted by ``!``.
        identifier: that was planted.
        form: how it was written.
        around: what stands before and after it.
    """

    where: str
    identifier: str
    form: str
    around: str


class PlantedIdentifiers:
    """Finds identifiers in each form that programs write text in.

    Args:
        identifiers: of at least four characters, of a kind that nothing else holds.
    """

    def __init__(self, identifiers: Collection[str]) -> None:
        short = [identifier for identifier in identifiers if len(identifier) < 4]
        if short or not identifiers:
            raise ValueError(f"identifiers must be some, and have 4 characters at least, got {short}.")
        self._needles = [
            (identifier, form, needle)
            for identifier in dict.fromkeys(identifiers)
            for form, needle in written_forms(identifier).items()
        ]

    def in_text(self, text: str, where: str = "text") -> list[Leak]:
        """Leaks in a text."""
        return self.in_bytes(text.encode("utf-8", errors="surrogateescape"), where)

    def in_folder(self, folder: Path, *, given: Collection[str] = ()) -> list[Leak]:
        """Leaks in the names and the content of all that lies in a folder, hidden files too.

        Args:
            folder: its own name, and those above it, are not looked at.
            given: parts of names that the user chose, such as a checkpoint's stem; as names they may stand.
        """
        found = []
        for path in sorted(folder.rglob("*")):
            name = where = path.relative_to(folder).as_posix()
            for part in sorted(given, key=len, reverse=True):
                name = name.replace(part, "")
            found += self.in_text(name, f"name of {where}")
            if path.is_symlink():
                found += self.in_text(str(path.readlink()), f"link {where}")
            elif path.is_file():
                found += self.in_bytes(path.read_bytes(), where)
        return found

    def in_bytes(self, content: bytes, where: str) -> list[Leak]:
        """Leaks in a file's content, and in what it contains."""
        found = []
        for place, part in _unpacked(content, where):
            folded = part.lower()
            found += [
                Leak(place, identifier, form, _around(part, folded, needle))
                for identifier, form, needle in self._needles
                # base64 alone tells capital letters from small ones
                if needle in (part if form.startswith("base64") else folded)
            ]
        return found


def _around(content: bytes, folded: bytes, needle: bytes) -> str:
    start = max(content.find(needle), folded.find(needle))
    return repr(content[max(0, start - 60) : start + len(needle) + 60])


def written_forms(identifier: str) -> dict[str, bytes]:
    r"""Bytes that an identifier may stand as, by name of the form; forms of equal bytes are there once.

    Example:
        >>> written_forms("A/\u00fc12")["URL"]
        b'a%2f%c3%bc12'
    """
    folded = identifier.lower()
    texts = {
        "plain": identifier,
        "URL": quote(identifier, safe=""),
        "URL, path": quote(identifier),
        "JSON": json.dumps(identifier)[1:-1],
        "JSON, escaped slash": json.dumps(identifier)[1:-1].replace("/", "\\/"),
        "HTML": html.escape(identifier),
        "repr": repr(identifier)[1:-1],
    }
    forms = {name: text.lower().encode() for name, text in texts.items()}
    # of bytes, lower() changes ASCII's letters only
    forms["capitals"] = identifier.upper().encode().lower()
    forms["Latin-1"] = folded.encode("latin-1", errors="ignore")
    forms["Latin-1, capitals"] = identifier.upper().encode("latin-1", errors="ignore").lower()
    # without the zeros at the ends, so that both byte orders are found
    forms["UTF-16"] = folded.encode("utf-16-le").strip(b"\0")
    forms["UTF-32"] = folded.encode("utf-32-le").strip(b"\0")
    forms["hexadecimal"] = identifier.encode().hex().encode()
    for lead in range(3):
        packed = base64.b64encode(b"\0" * lead + identifier.encode())
        # characters that hold bits of what comes before or after are not known
        known = packed[-(-lead * 8 // 6) : (lead + len(identifier.encode())) * 8 // 6]
        forms[f"base64 at {lead}"] = known
        forms[f"base64 for URLs at {lead}"] = known.replace(b"+", b"-").replace(b"/", b"_")
    seen: dict[bytes, str] = {}
    for name, needle in forms.items():
        seen.setdefault(needle, name)
    return {name: needle for needle, name in seen.items()}


def _unpacked(content: bytes, where: str, depth: int = 0) -> Iterator[tuple[str, bytes]]:
    """The bytes themselves, and those of everything in them."""
    yield where, content
    if depth == _DEEPEST:
        return
    for name, inner in _contained(content):
        yield from _unpacked(inner, f"{where}!{name}", depth + 1)


def _contained(content: bytes) -> Iterator[tuple[str, bytes]]:
    if content[257:262] == b"ustar":  # first: one that ends in a zip passes for a zip
        yield from _tar_members(content)
    elif zipfile.is_zipfile(io.BytesIO(content)):
        yield from _zip_members(content)
    elif content[:2] == _GZIP:
        yield "gzip", gzip.decompress(content)  # a name in its header lies bare in the file
    elif content[:4] == _ZSTD:
        yield "zstd", bytes(Zstd().decode(content))
    elif content[:8] == _PNG:
        yield from _png_texts(content)
    for number, url in enumerate(_DATA_URL.finditer(content)):
        yield f"data URL {number}", base64.b64decode(url[1])


def _zip_members(content: bytes) -> Iterator[tuple[str, bytes]]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        for member in archive.infolist():
            yield member.filename, archive.read(member)


def _tar_members(content: bytes) -> Iterator[tuple[str, bytes]]:
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        for member in archive:
            stream = archive.extractfile(member)
            if stream is not None:
                yield member.name, stream.read()


def _png_texts(content: bytes) -> Iterator[tuple[str, bytes]]:
    """Texts that are compressed; others lie bare in the file."""
    start = len(_PNG)
    while start + 8 <= len(content):
        length, kind = int.from_bytes(content[start : start + 4]), content[start + 4 : start + 8]
        body = content[start + 8 : start + 8 + length]
        if kind == b"zTXt":
            yield "zTXt", zlib.decompress(body.split(b"\0", 1)[1][1:])
        elif kind == b"iTXt":
            keyword, rest = body.split(b"\0", 1)
            text = rest[2:].split(b"\0", 2)[2]
            yield f"iTXt {keyword.decode('latin-1')}", zlib.decompress(text) if rest[0] else text
        start += 12 + length
