"""dicom-validator fed with the tables of the DICOM standard that highdicom carries: neither needs the network here."""

from __future__ import annotations

import json
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.datadict import dictionary_description, dictionary_VM, dictionary_VR, tag_for_keyword


def conformance_errors(path: Path) -> list[str]:
    """What dicom-validator finds wrong with a CT image: missing, empty and unexpected elements, values against VRs.

    highdicom's tables hold types and nesting, not the conditions of types 1C and 2C, nor enumerated values; elements
    of these types count as optional.

    Args:
        path: the file.
    """
    pytest.importorskip("dicom_validator", reason="dicom-validator is not installed")
    pytest.importorskip("highdicom", reason="highdicom is not installed")
    from dicom_validator.validator.error_handler import NullValidationResultHandler
    from dicom_validator.validator.iod_validator import IODValidator

    dataset = pydicom.dcmread(path, defer_size=1024)
    result = IODValidator(dataset, _tables(), error_handler=NullValidationResultHandler()).validate()
    return [
        f"{module}: {tag} {error.code.name}"
        for module, errors in result.module_errors.items()
        for tag, error in errors.items()
    ]


@cache
def _tables() -> Any:
    from dicom_validator.validator.dicom_info import DicomInfo

    folder = resources.files("highdicom") / "_standard"
    used, attributes = (
        json.loads((folder / name).read_text()) for name in ("iod_module_map.json", "module_attribute_map.json")
    )
    dictionary: dict[str, dict[str, str]] = {}
    modules: dict[str, dict[str, Any]] = {}
    for module in (entry["key"] for entry in used["ct-image"]):
        for entry in attributes.get(module, []):
            tags = [_tag(word, dictionary) for word in (*entry["path"], entry["keyword"])]
            if None in tags:  # repeating groups and retired elements
                continue
            node = modules.setdefault(module, {})
            for tag in tags[:-1]:
                node = node.setdefault(tag, {"name": tag, "type": "3"}).setdefault("items", {})
            node.setdefault(tags[-1], {}).update(name=entry["keyword"], type=entry["type"])
    iod = {e["key"]: {"ref": e["key"], "use": e["usage"]} for e in used["ct-image"] if e["key"] in modules}
    info = {"title": "CT Image IOD", "modules": iod, "group_macros": {}}
    return DicomInfo(dictionary, {"1.2.840.10008.5.1.4.1.1.2": info}, modules)


def _tag(keyword: str, dictionary: dict[str, dict[str, str]]) -> str | None:
    tag = tag_for_keyword(keyword)
    if tag is None:
        return None
    text = f"({tag >> 16:04X},{tag & 0xFFFF:04X})"
    dictionary[text] = {
        "name": dictionary_description(tag), "vr": dictionary_VR(tag), "vm": dictionary_VM(tag), "prop": "",
    }  # fmt: skip
    return text
