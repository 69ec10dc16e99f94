from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bonemonai.errors import InputError
from bonemonai.sharing.bundle_checks import (
    check_layout,
    check_metadata,
    check_sizes,
    check_written,
    installed_version,
    older_here,
    stated_needs,
)
from bonemonai.sharing.bundle_files import METADATA, bundle_files
from tests.bundle_metadata_contract import REQUIRED
from tests.sharing.small_bundle import METADATA as CONTENT
from tests.sharing.small_bundle import README, write_bundle


@pytest.mark.parametrize("key", REQUIRED)
def test_metadata_must_have_what_the_projects_own_have(key: str) -> None:
    assert check_metadata({METADATA: CONTENT}) == CONTENT
    with pytest.raises(InputError, match=rf"^configs/metadata.json: lacks {key};"):
        check_metadata({METADATA: {name: value for name, value in CONTENT.items() if name != key}})


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"version": "9.9.9"}, "is of version 9.9.9, which its changelog does not hold"),
        ({"version": 1}, "by something that is none"),
        ({"changelog": ["0.2.0"]}, "changelog"),
        ({"required_packages_version": ["bonemonai"]}, "by something that is none"),
        ({"required_packages_version": {"bonemonai": 1}}, "by something that is none"),
        ({"intended_use": "Diagnosis."}, "not a medical device"),
    ],
)
def test_metadata_that_contradicts_itself_is_refused(change: dict[str, Any], reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        check_metadata({METADATA: {**CONTENT, **change}})


def test_metadata_must_be_there() -> None:
    for configs in ({}, {METADATA: []}):
        with pytest.raises(InputError, match="is missing from the bundle"):
            check_metadata(configs)


@pytest.mark.parametrize("name", ["LICENSE", "configs/logging.conf", "docs/README.md", "docs/data_license.txt"])
def test_files_that_must_be_there(name: str, tmp_path: Path) -> None:
    check_layout(bundle_files(write_bundle(tmp_path / "whole")))
    with pytest.raises(InputError, match=f"^{name}: is missing"):
        check_layout(bundle_files(write_bundle(tmp_path / "a", {name: None})))
    with pytest.raises(InputError, match=f"^{name}: is empty"):
        check_layout(bundle_files(write_bundle(tmp_path / "b", {name: " \n"})))


@pytest.mark.parametrize("word", ["not a medical device", "Deviations", "Citation", "Performance"])
def test_readme_must_say(word: str, tmp_path: Path) -> None:
    folder = write_bundle(tmp_path / "b", {"docs/README.md": README.replace(word, "...")})
    with pytest.raises(InputError, match=f"does not say '{word}'"):
        check_layout(bundle_files(folder))


def test_large_files_are_refused() -> None:
    check_sizes({"models/model.pt": bytes(25_000_000)})
    with pytest.raises(InputError, match=r"^models/model.pt: has 25.0 MB, more than 25; say --allow-large"):
        check_sizes({"models/model.pt": bytes(25_000_001)})


def test_needs_are_compared_as_versions() -> None:
    needs = stated_needs({**CONTENT, "numpy_version": "1.9"})
    assert needs["numpy"] == "1.9"
    assert set(needs) == {"torch", "monai", "numpy", "bonemonai"}
    assert older_here(needs) == []  # 2.4 is later than 1.9 and 1.10, and so would 1.10 be
    here = installed_version("numpy")
    assert here is not None
    assert older_here({"numpy": f"{here}.0"}) == []
    assert older_here({"numpy": f"{here}.1", "no-such": "1"}) == [
        f"numpy {here}.1 (here {here})",
        "no-such 1 (not here)",
    ]
    assert older_here({"numpy": "1.100.0", "click": "8.0rc1+cpu"}) == []


def test_what_is_to_be_filled_in_is_refused_by_name() -> None:
    check_written({"docs/README.md": "what says FILL IN\nis written"})
    with pytest.raises(InputError) as caught:
        check_written(
            {"docs/README.md": "x\nFILL IN: how to cite.\n", "configs/a.json": '{\n"authors": "FILL IN: who",\n'}
        )
    also = "Also to be written: docs/README.md line 2."
    assert str(caught.value) == f"configs/a.json: line 2 is still to be written: who. {also}"
