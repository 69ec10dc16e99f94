from __future__ import annotations

from pathlib import Path

import pytest

from bonemonai.data import manifest as data_manifest
from bonemonai.data import manifest_items, read_manifest, write_manifest
from bonemonai.errors import InputError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
    return tmp_path


def manifest(folder: Path, text: str, encoding: str = "utf-8") -> Path:
    path = folder / "manifest.csv"
    path.write_bytes(text.encode(encoding))
    return path


def test_ids_are_text_and_paths_absolute(folder: Path) -> None:
    table = read_manifest(manifest(folder, "patient,image,sample,NA\n007,a,1e3,NA\n7,b,,nan\n"))
    assert table["patient"].tolist() == ["007", "7"]
    assert table["sample"].tolist() == ["1e3", ""]
    assert table["NA"].tolist() == ["NA", "nan"]
    assert table["image"].tolist() == [str(folder / "a"), str(folder / "b")]


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("patient,image\nP1,a\n", "utf-8-sig"),
        ("patient;image\r\nP1;a\r\n", "utf-8"),
        ('"patient","image"\n"P1"," a "\n\n', "utf-8"),
    ],
)
def test_what_spreadsheets_write_is_read(folder: Path, text: str, encoding: str) -> None:
    table = read_manifest(manifest(folder, text, encoding))
    assert table.to_dict("records") == [{"patient": "P1", "image": str(folder / "a")}]


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("", "lacks the column 'patient'"),
        ("patient,image\n", "holds no row"),
        ("patient,scan\nP1,a\n", "lacks the column 'image'; it has patient, scan"),
        ("patient,image\nP1,a\n,b\n", "row 3: column 'patient' is empty"),
        ("patient,image\n\nP1,a\n\n,b\n", "row 5: column 'patient' is empty"),
        ("patient,image\nP1,nowhere\n", "row 2: 'nowhere' does not exist"),
        ("patient,image\nP1,a\0\n", "row 2 holds a line break or another control character"),
        ("patient,image\nP1,../a\n", "row 2: '../a' is not inside"),
        ("patient,image\nP1,a\nP1,a\n", "row 3: doubles an earlier row"),
        ("patient,image,split\nP1,a,training\n", "row 2: column 'split' must be one of train, val, test"),
        ("patient,image,split\nP1,a,train\np1 ,b,test\n", "patient 'p1' stands in more than one split: test, train"),
        ("patient,image,split,plane\nP1,a,train,1\nP2,a,test,2\n", "image .* stands in more than one split"),
        ("patient,image,split\nM\u00fcller,a,train\nMu\u0308ller,b,test\n", "stands in more than one split"),
        ("patient,image,image\nP1,a,a\n", "doubled column"),
        ("patient,image\nP1\n", "row 2 has 1 values for 2 columns"),
    ],
)
def test_refusals_name_row_and_cause(folder: Path, text: str, cause: str) -> None:
    with pytest.raises(InputError, match=rf"manifest.csv: .*{cause}"):
        read_manifest(manifest(folder, text))


def test_absolute_path_outside_is_refused(folder: Path) -> None:
    with pytest.raises(InputError, match="not inside"):
        read_manifest(manifest(folder, "patient,image\nP1,/etc\n"))


def test_missing_manifest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such manifest"):
        read_manifest(tmp_path / "manifest.csv")


def test_several_planes_of_one_image_are_no_duplicates(folder: Path) -> None:
    assert len(read_manifest(manifest(folder, "patient,image,plane\nP1,a,3\nP1,a,9\n"))) == 2


def test_slices_of_one_image_are_no_duplicates_but_doubled_ones_are(folder: Path) -> None:
    head = "patient,image,plane,index\n"
    assert len(read_manifest(manifest(folder, head + "P1,a,XY,3\nP1,a,XZ,3\nP1,a,XY,4\n"))) == 3
    with pytest.raises(InputError, match="row 4: doubles an earlier row"):
        read_manifest(manifest(folder, head + "P1,a,XY,3\nP1,a,XZ,3\nP1,a,XY,3\n"))


def test_numbers_of_rows_hide_no_doubled_row(folder: Path) -> None:
    with pytest.raises(InputError, match="row 3: doubles an earlier row"):
        read_manifest(manifest(folder, "index,patient,image\n0,P1,a\n1,P1,a\n"))


def test_masks_of_phantoms_are_paths_and_may_be_empty(folder: Path) -> None:
    path = manifest(folder, "patient,image,crack,ring\nP1,a,c,\nP1,b,,c\n")
    table = read_manifest(path)
    assert table["crack"].tolist() == [str(folder / "c"), ""]
    assert table["ring"].tolist() == ["", str(folder / "c")]
    for root in (None, folder):
        write_manifest(table, folder / "copy.csv", root=root)
        assert (folder / "copy.csv").read_text() == path.read_text()
    with pytest.raises(InputError, match="row 3: 'nowhere' does not exist"):
        read_manifest(manifest(folder, "patient,image,crack\nP1,a,c\nP1,b,nowhere\n"))


def test_masks_and_labels_may_be_empty_where_the_caller_says_so(folder: Path) -> None:
    text = "patient,image,mask,label,split\nP1,a,c,healthy,test\nP2,b,,,\n"
    path = manifest(folder, text)
    with pytest.raises(InputError, match="row 3: column 'split' is empty"):
        read_manifest(path, classes=["healthy"])
    with pytest.raises(InputError, match="row 3: column 'label' is empty"):
        read_manifest(path, classes=["healthy"], may_be_empty=("mask", "split"))
    with pytest.raises(InputError, match="row 3: '' is not inside the manifest's folder"):
        read_manifest(path, classes=["healthy"], may_be_empty=("label", "split"))
    table = read_manifest(path, classes=["healthy"], may_be_empty=("mask", "label", "split"))
    assert table["mask"].tolist() == [str(folder / "c"), ""]
    assert table["label"].tolist() == ["healthy", ""]
    assert table["split"].tolist() == ["test", ""]
    write_manifest(table, folder / "copy.csv")
    assert (folder / "copy.csv").read_text() == text
    for wrong, cause in ((",ill", "'label' must be one of healthy"), ("nowhere,", "'nowhere' does not exist")):
        with pytest.raises(InputError, match=f"row 3: .*{cause}"):
            read_manifest(
                manifest(folder, f"patient,image,mask,label\nP1,a,c,healthy\nP2,b,{wrong}\n"),
                classes=["healthy"], may_be_empty=("mask", "label"),
            )  # fmt: skip


def test_patient_and_image_are_never_empty(folder: Path) -> None:
    path = manifest(folder, "patient,image\nP1,a\n")
    for column in ("patient", "image"):
        with pytest.raises(ValueError, match=f"may_be_empty must not name {column}, which each row states"):
            read_manifest(path, may_be_empty=(column,))


def test_each_path_is_looked_up_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = "".join(f"P1,{image},XY,{index}\n" for image in "ab" for index in range(50))
    path = manifest(folder, "patient,image,plane,index\n" + rows)
    seen = []
    real = data_manifest._resolve
    monkeypatch.setattr(data_manifest, "_resolve", lambda *given: seen.append(given[2]) or real(*given))
    table = read_manifest(path)
    assert seen == ["a", "b"]
    assert table["image"].tolist() == [str(folder / "a")] * 50 + [str(folder / "b")] * 50
    write_manifest(table, path)
    assert read_manifest(path).equals(table)


def test_label_may_be_a_class(folder: Path) -> None:
    table = read_manifest(manifest(folder, "patient,image,label\nP1,a,healthy\n"), label_is_path=False)
    assert table["label"].tolist() == ["healthy"]


def test_written_manifest_reads_back(folder: Path) -> None:
    path = manifest(folder, "patient,image,site,split\n007,a,Ghent,train\n8,b,,test\n")
    table = read_manifest(path)
    write_manifest(table, folder / "copy.csv")
    assert (folder / "copy.csv").read_text().splitlines()[1] == "007,a,Ghent,train"
    assert read_manifest(folder / "copy.csv").equals(table)


def test_a_leaking_split_is_not_written(folder: Path) -> None:
    table = read_manifest(manifest(folder, "patient,image\nP1,a\np1,b\n")).assign(split=["train", "test"])
    with pytest.raises(InputError, match="patient 'p1' stands in more than one split"):
        write_manifest(table, folder / "copy.csv")


def test_items_of_a_split(folder: Path) -> None:
    table = read_manifest(manifest(folder, "patient,image,split\nP1,a,train\nP2,b,test\n"))
    assert [item["patient"] for item in manifest_items(table, "test")] == ["P2"]
    assert len(manifest_items(table)) == 2
    with pytest.raises(InputError, match="data set is empty: no row of split 'val'"):
        manifest_items(table, "val")
    with pytest.raises(InputError, match="no column 'split'"):
        manifest_items(table.drop(columns="split"), "val")


def test_quote_left_open_swallows_no_rows(folder: Path) -> None:
    text = 'patient,image,split,site\nP1,a,train,X\nP2,b,test,"X\nP1,c,test,X\n'
    with pytest.raises(InputError, match=r"manifest\.csv: row \d+"):
        read_manifest(manifest(folder, text))


@pytest.mark.parametrize("other", ["P1\ufe0f", "P\u034f1", "P1\u3164", "P1\u200b", "p 1", "P\u20131"])
def test_spellings_that_look_alike_are_one_patient(other: str, folder: Path) -> None:
    first = "P-1" if "\u2013" in other else "P 1" if " " in other else "P1"
    with pytest.raises(InputError, match="stands in more than one split"):
        read_manifest(manifest(folder, f"patient,image,split\n{first},a,train\n{other},b,test\n"))


def test_cell_of_a_novel(folder: Path) -> None:
    with pytest.raises(InputError, match="cannot be parsed"):
        read_manifest(manifest(folder, f"patient,image\n{'x' * 200_000},a\n"))
