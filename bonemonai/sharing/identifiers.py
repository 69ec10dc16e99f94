"""What looks like a patient's or a person's identifier in text that is to be handed over."""

from __future__ import annotations

import re
from typing import NamedTuple

_TAGS = "PatientName|PatientID|PatientBirthDate|OtherPatientIDs|OtherPatientNames|PatientAddress|AccessionNumber"
_DATE = r"(?:\d{8}|\d{4}[-./]\d{1,2}[-./]\d{1,2}|\d{1,2}[-./]\d{1,2}[-./]\d{2,4})\b"
# not /path/to/something, as documents write it, nor '/images' that is put behind a folder's name
_PATH = r"(?<![\w/.:)\]}~*<@-])(?<!\+ ['\"])/(?!path/)(?:[\w.+~-]+/)+[\w.+-]*"
_WINDOWS = r"(?<![A-Za-z])[A-Za-z]:\\{1,2}\w[\w .-]*\\|\\\\\w[\w.-]*\\\w|file:///?\w"
# a value that is a reference, an expression or nothing is no identifier
_PATTERNS = {
    "an absolute path": f"{_PATH}|{_WINDOWS}",
    "a folder of a user": r"(?<![\w/.:])/(?:home|Users|root)/?(?=[\w\"'\s]|$)",
    "an identifier of DICOM": rf"\b(?:{_TAGS})\b[\"'`]?\s*[:=]\s*[\"']?(?!null\b|None\b)[^\s\"'`,}}\]$@|*]",
    "a person's name of DICOM": r"\b[A-Z][A-Za-z'-]+\^[A-Z][A-Za-z'-]+",
    "a date of birth": rf"(?i:\b(?:birth[ _-]?(?:date|day)|date[ _-]of[ _-]birth|born(?: on)?|dob)\b)\W{{0,6}}{_DATE}",
}
_COMPILED = {what: re.compile(pattern) for what, pattern in _PATTERNS.items()}


class Identifier(NamedTuple):
    """Where something stands that must not be handed over.

    Args:
        line: number, from 1.
        what: kind of identifier.
        begins: its first letters; it is not repeated in full.
    """

    line: int
    what: str
    begins: str


def find_identifier(text: str) -> Identifier | None:
    r"""Find the first identifier in a text.

    Absolute paths name machines and people; DICOM's tags with a value, and dates of birth, name patients.

    Args:
        text: of a config, a card or a document.

    Example:
        >>> find_identifier("first line\nPatientName: DOE^JOHN")
        Identifier(line=2, what='an identifier of DICOM', begins='Pati')
        >>> find_identifier("bundles/lumbar and https://example.org/a/b") is None
        True
    """
    for number, line in enumerate(text.splitlines(), start=1):
        line = line.replace(r"\/", "/")  # as JSON may write it
        for what, pattern in _COMPILED.items():
            found = pattern.search(line)
            if found is not None:
                return Identifier(number, what, found[0].strip("\"'")[:4])
    return None
