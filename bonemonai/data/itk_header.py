"""Headers of NRRD and MetaImage files, and whether the data behind them are what they say."""

from __future__ import annotations

import math
import re
import zlib
from dataclasses import dataclass
from pathlib import Path

from bonemonai.errors import InputError

_LONGEST_HEADER = 16_000_000  # bytes; segmentations list their segments
_NRRD_BYTES = {
    "int8": 1, "uint8": 1, "char": 1, "int16": 2, "uint16": 2, "short": 2, "ushort": 2, "int": 4, "uint": 4, "int32": 4,
    "uint32": 4, "int64": 8, "uint64": 8, "float": 4, "double": 8,
}  # fmt: skip
_META_BYTES = {"char": 1, "short": 2, "int": 4, "long": 4, "long_long": 8, "float": 4, "double": 8}


@dataclass(frozen=True)
class ItkHeader:
    """What a header says.

    Attributes:
        path: its file.
        fields: by name in lower case.
        data: file that holds the values.
        offset: bytes before them; -1 where they are the file's last.
        needed: bytes that they take.
        compressed: whether they are a zlib or gzip stream.
        stream_bytes: length of that stream, where it is stated.
    """

    path: Path
    fields: dict[str, str]
    data: Path
    offset: int
    needed: int
    compressed: bool
    stream_bytes: int | None = None

    def check_data(self) -> None:
        """Compare the data with the header, a compressed stream to its end, where its checksum is.

        Raises:
            InputError: if there are more or fewer bytes than the header says, or the stream is damaged.
        """
        length = self.data.stat().st_size - max(0, self.offset)
        if self.compressed:
            self._inflate()
        elif length < self.needed or (length > self.needed and self.offset >= 0):
            raise InputError(self.path, f"holds {length} bytes of values; its header says {self.needed}.")

    def _inflate(self) -> None:
        unpacker, length = zlib.decompressobj(wbits=47), 0  # zlib or gzip
        with open(self.data, "rb") as stream:
            stream.seek(self.offset)
            while not unpacker.eof and length <= self.needed:
                block = unpacker.unconsumed_tail or stream.read(1 << 20)
                if not block:
                    raise InputError(self.path, "holds compressed data that are cut short.")
                try:
                    length += len(unpacker.decompress(block, 1 << 22))
                except zlib.error as error:
                    raise InputError(self.path, f"holds damaged data: {error}.") from error
            used = stream.tell() - self.offset - len(unpacker.unused_data)
        if length != self.needed:
            found = "more" if length > self.needed else str(length)
            raise InputError(self.path, f"unpacks to {found} bytes; its header says {self.needed}.")
        if self.stream_bytes is not None and self.stream_bytes != used:
            raise InputError(self.path, f"states {self.stream_bytes} compressed bytes; there are {used}.")


def read_nrrd_header(path: Path) -> ItkHeader:
    """Read the header of a .nrrd or .nhdr file.

    Raises:
        InputError: if it is none, or describes data in a way that is not supported.
    """
    with open(path, "rb") as stream:
        if not stream.read(8).startswith(b"NRRD000"):
            raise InputError(path, "is no NRRD file.")
        content = stream.read(_LONGEST_HEADER)
    end = re.search(rb"\r?\n\r?\n", content)
    text = _text(content[: end.start()] if end else content)
    pairs = (line.split(":", 1) for line in text.splitlines() if ":" in line and not line.startswith("#"))
    fields = {name.strip().lower(): value.lstrip("=").strip() for name, value in pairs}
    encoding = fields.get("encoding", "none").lower()
    if encoding not in ("raw", "gz", "gzip"):
        raise InputError(path, f"has encoding {encoding}; raw and gzip are read.")
    skip, lines = int(fields.get("byte skip", 0)), int(fields.get("line skip", 0))
    if lines or (skip and encoding != "raw") or skip < -1:
        raise InputError(path, "skips lines or bytes before its data, which is not supported.")
    kind = fields.get("type", "").lower().removeprefix("signed ").replace("unsigned ", "u").removesuffix("_t")
    kind = {"uchar": "uint8", "long long": "int64", "ulong long": "uint64", "longlong": "int64"}.get(kind, kind)
    if kind.removesuffix(" int") not in _NRRD_BYTES:
        raise InputError(path, f"has type {fields.get('type')}, which is not supported.")
    needed = math.prod(int(n) for n in fields.get("sizes", "0").split()) * _NRRD_BYTES[kind.removesuffix(" int")]
    name = fields.get("data file", fields.get("datafile", "LOCAL"))
    beside = _beside(path, name)
    if beside is None and end is None:
        raise InputError(path, "ends within its header.")
    start = 0 if beside is not None or end is None else 8 + end.end()
    return ItkHeader(path, fields, beside or path, -1 if skip < 0 else start + skip, needed, encoding != "raw")


def read_meta_header(path: Path) -> ItkHeader:
    """Read the header of a .mha or .mhd file.

    Raises:
        InputError: if it is none, or describes data in a way that is not supported.
    """
    with open(path, "rb") as stream:
        content = stream.read(_LONGEST_HEADER)
    last = re.search(rb"^ElementDataFile\s*=.*\n?", content, re.M)
    if last is None:
        raise InputError(path, "is no MetaImage: its header names no ElementDataFile.")
    pairs = (line.partition("=") for line in _text(content[: last.end()]).splitlines())
    fields = {name.strip().lower(): value.strip() for name, _, value in pairs}
    kind = fields.get("elementtype", "").lower().removeprefix("met_").removeprefix("u")
    if kind not in _META_BYTES:
        raise InputError(path, f"has ElementType {fields.get('elementtype')}, which is not supported.")
    for name, neutral in (("slope", 1.0), ("offset", 0.0)):
        if float(fields.get(f"elementtointensityfunction{name}", neutral)) != neutral:
            raise InputError(path, "states a scaling of its values, which is not applied; write it without.")
    needed = math.prod(int(n) for n in fields.get("dimsize", "0").split()) * _META_BYTES[kind]
    needed *= int(fields.get("elementnumberofchannels", 1))
    beside = _beside(path, fields["elementdatafile"])
    skip = int(fields.get("headersize", 0))
    start = last.end() if beside is None else 0
    compressed = fields.get("compresseddata", "false").lower() in ("true", "t", "1")
    stream_bytes = fields.get("compresseddatasize")
    return ItkHeader(
        path, fields, beside or path, -1 if skip == -1 else start + max(0, skip), needed, compressed,
        int(stream_bytes) if compressed and stream_bytes is not None else None,
    )  # fmt: skip


def _beside(path: Path, name: str) -> Path | None:
    """The data's file, which must lie beside the header under a name of its own; None for the header's own."""
    if name.upper() == "LOCAL":
        return None
    if name.upper().startswith("LIST") or "%" in name:
        raise InputError(path, "spreads its data over several files; join them first.")
    if Path(name).name != name or "\\" in name:
        raise InputError(path, f"names data elsewhere ({name}); they must lie beside the header.")
    if not (path.parent / name).is_file():
        raise InputError(path, f"lacks its data file {name}.")
    return path.parent / name


def _text(content: bytes) -> str:
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        return content.decode("latin-1")
