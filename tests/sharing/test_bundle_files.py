from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from bonemonai.errors import InputError
from bonemonai.sharing.bundle_files import bundle_files, code_digest, file_sha256, read_configs, read_text
from tests.sharing.small_bundle import write_bundle

NAMES = [
    "LICENSE", "configs/inference.json", "configs/logging.conf", "configs/metadata.json", "docs/README.md",
    "docs/data_license.txt",
]  # fmt: skip


def test_files_are_listed_without_results(tmp_path: Path) -> None:
    folder = write_bundle(tmp_path / "b", {"eval/predictions.csv": "patient", "eval/x.py": "",
                                            "models/model.training/epoch_00001.pt": "optimiser"})  # fmt: skip
    assert list(bundle_files(folder)) == NAMES
    assert set(read_configs(bundle_files(folder))) == {"configs/inference.json", "configs/metadata.json"}


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("configs/evil.py", "it is Python"),
        ("scripts/__init__.py", "it is Python"),
        ("configs/__pycache__/a.cpython-311.pyc", "it is Python"),
        ("configs/train.yaml", "of a kind that none holds"),
        ("configs/train.JSON", "of a kind that none holds"),
        ("Configs/train.json", "of a kind that none holds"),
        ("docs/run.sh", "of a kind that none holds"),
        ("models/model.ts", "of a kind that none holds"),
        ("models/cache.npy", "of a kind that none holds"),
        ("train.json", "of a kind that none holds"),
        (".git/config", "of a kind that none holds"),
        ("docs/a:b.md", "holds a colon"),
    ],
)
def test_what_is_no_part_of_a_bundle_is_refused(name: str, reason: str, tmp_path: Path) -> None:
    folder = write_bundle(tmp_path / "b", {name: "x"})
    with pytest.raises(InputError, match=reason):
        bundle_files(folder)


def test_other_folders_are_not_searched(tmp_path: Path) -> None:
    folder = write_bundle(tmp_path / "b")
    for path, reason in (
        (folder / "LICENSE", "is no folder of a bundle"),
        (tmp_path, "is no bundle: it holds no configs"),
    ):
        with pytest.raises(InputError, match=reason):
            bundle_files(path)


def test_links_and_pipes_are_refused(tmp_path: Path) -> None:
    folder = write_bundle(tmp_path / "b")
    (folder / "docs" / "link.md").symlink_to(folder / "LICENSE")
    with pytest.raises(InputError, match=r"^docs/link.md: is a link"):
        bundle_files(folder)
    (folder / "docs" / "link.md").unlink()
    (folder / "models").symlink_to(tmp_path)
    with pytest.raises(InputError, match=r"^models: is a link"):
        bundle_files(folder)
    (folder / "models").unlink()
    os.mkfifo(folder / "docs" / "pipe.md")
    with pytest.raises(InputError, match=r"^docs/pipe.md: is neither"):
        bundle_files(folder)


def test_names_that_are_one_elsewhere_are_refused(tmp_path: Path) -> None:
    folder = write_bundle(tmp_path / "b", {"docs/readme.md": "x"})
    if len(list((folder / "docs").iterdir())) < 3:
        pytest.skip("this file system takes both names for one")
    with pytest.raises(InputError, match=r"docs/readme.md: and docs/README.md are one file"):
        bundle_files(folder)


def test_digest_is_of_all_that_may_run(tmp_path: Path) -> None:
    folder = write_bundle(tmp_path / "b")
    before = code_digest(bundle_files(folder))
    (folder / "docs" / "README.md").write_text("other")
    assert code_digest(bundle_files(folder)) == before
    for name in ("configs/logging.conf", "configs/inference.json", "models/card.json"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("{}")
        after = code_digest(bundle_files(folder))
        assert after != before
        before = after
    assert file_sha256(folder / "LICENSE") == hashlib.sha256((folder / "LICENSE").read_bytes()).hexdigest()


def test_text_that_is_missing_or_endless_is_refused(tmp_path: Path) -> None:
    files = bundle_files(write_bundle(tmp_path / "b"))
    with pytest.raises(InputError, match=r"^docs/x.md: is missing"):
        read_text(files, "docs/x.md")
    with open(files["docs/README.md"], "r+b") as stream:
        stream.truncate(30_000_000)
    with pytest.raises(InputError, match="larger than 20 MB"):
        read_text(files, "docs/README.md")
