from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from bonemonai.analysis import ScreeningResults
from bonemonai.data import list_screening_scans
from bonemonai.data.screening_scans import ScreeningScan
from bonemonai.errors import BatchError
from bonemonai.report import write_screening_page
from tests import lumbar_files
from tests.analysis.test_screening_results import ABOUT, PLANTED, Blind, one_scan, sagittal_series
from tests.engines.test_lumbar_screening import engine

IMAGES = re.compile(r'src="data:[^"]*"')
VOID = {"meta", "img", "br", "hr", "link", "input"}
PHANTOM = {"trained_on": {"kind": "synthetic", "data": "bonemonai lumbar CT phantom"}, "sha256": "ab"}


class HalfBlind(nn.Module):
    """Marks only what is brighter than 120 HU in the first slice of a batch."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        found = (image > 0.7).float()
        found[1:] = 0
        return found


def screen(folder: Path, scans: list[ScreeningScan], networks: Any = None, **options: Any) -> tuple[str, Any, Any]:
    """The last scan's page, its record and what the engine found."""
    settings = {"about": ABOUT, "erosion_mm": 1.0, "page": write_screening_page, **options}
    screening = engine(scans, writer=ScreeningResults(folder, **settings), **(networks or {}))
    screening.run()
    own = folder / scans[-1].name
    record = json.loads((own / "screening.json").read_text(encoding="utf-8"))
    return (own / "screening.html").read_text(encoding="utf-8"), record, screening.state.output


def text(page: str) -> str:
    """What a reader sees, without figures, marks and line ends."""
    return " ".join(re.sub(r"<[^>]*>", " ", IMAGES.sub("", page)).split())


def manifest_scans(folder: Path, **options: Any) -> list[ScreeningScan]:
    path = lumbar_files.write_manifest(folder)
    return list_screening_scans(path, split="test", levels=lumbar_files.LEVELS, per_level=2, **options)


def test_page_needs_nothing_else_and_is_well_formed(tmp_path: Path) -> None:
    page, *_ = screen(tmp_path / "out", one_scan(tmp_path))
    assert re.findall(r'(?:src|href)="(?!data:image/png;base64,)', page) == []
    bare = IMAGES.sub("", page)
    assert not re.search(r"http|url\(|@import|<script|<link|<iframe|/tmp|\bnan\b|\bNone\b", bare)
    for image in re.findall(r"<img[^>]*>", bare):
        assert re.search(r'alt="[^"]{10,}"', image), image
    assert bare.count("<img") == 2

    class Checker(HTMLParser):
        open: list[str] = []  # noqa: RUF012

        def handle_starttag(self, tag: str, attrs: Any) -> None:
            if tag not in VOID:
                self.open.append(tag)

        def handle_endtag(self, tag: str) -> None:
            assert self.open.pop() == tag

    checker = Checker()
    checker.feed(page)
    assert checker.open == []


def test_what_is_said_first(tmp_path: Path) -> None:
    about = {**ABOUT, "weights": PHANTOM, "segmentation": {"trained_on": {"kind": "clinical", "data": "VerSe"}}}
    page, record, _ = screen(tmp_path / "out", one_scan(tmp_path), about=about)
    heading = text(page).split("Slices")[0]
    decision = record["decision"]
    for said in (
        "subject_00, scan_0000",
        "Research software, not a medical device: not for diagnosis, not for clinical use.",
        "The classifier was trained on PHANTOMS, no patient's scan (bonemonai lumbar CT phantom).",
        "The segmentation was trained on data of kind clinical (VerSe).",
        f"normal , probability {decision['probability']:.2f}, margin to the next {decision['margin']:.2f}",
        decision["advice"],
        "Mean of 18 slices, not calibrated.",
        "ahead by 0.20 or more, and is called sure from 0.80 on",
    ):
        assert said.replace("'", "&#39;") in heading or said in heading, said


def test_weights_that_say_nothing_are_of_unknown_data(tmp_path: Path) -> None:
    page, *_ = screen(tmp_path / "out", one_scan(tmp_path), about={"weights": None})
    assert "The classifier was trained on data of kind unknown (not described)." in text(page)
    assert "The segmentation was trained on data of kind unknown (not described)." in text(page)


def test_slices_and_what_was_refused(tmp_path: Path) -> None:
    page, record, found = screen(
        tmp_path / "out", manifest_scans(tmp_path), {"segmenter": HalfBlind(), "sw_batch_size": 2}
    )
    assert record["slices"]["refused"] == 2
    assert "4 slices looked at, 2 classified, 2 without a mark. They were chosen beforehand." in text(page)
    rows = text(page).split("Slice by slice")[1]
    for row in found.table.to_dict("records"):
        end = "no vertebra was marked" if row["refusal"] else f"{row['logit_osteoporosis']:.2f}"
        area = f"{row['area_mm2']:.0f}"
        assert re.search(rf"\b{row['plane']} {row['level']} {area} [-\d. ]*{end}", rows)
    assert rows.count("no vertebra was marked") == 2


def test_of_many_slices_without_a_mark_none_is_listed(tmp_path: Path) -> None:
    page, *_ = screen(tmp_path / "out", one_scan(tmp_path))
    assert "24 slices looked at, 18 classified, 6 without a mark" in text(page)
    assert "a thoracic vertebra in the scan would be among them" in text(page)
    assert page.count("<tr><td") == 18


def test_marks_at_the_border_and_several(tmp_path: Path) -> None:
    mask = lumbar_files.mask_in_axial_order()
    mask[3, :4, :4] = 20
    mask[12, 8:14, :12] = 21
    page, *_ = screen(tmp_path / "out", one_scan(tmp_path, mask))
    said = (
        "in 1 the mark touches the edge of the slice, so that some of the vertebra may be missing; "
        "in 1 there were several marks, of which the largest was taken."
    )
    assert said in text(page)


@pytest.mark.parametrize("chosen", [(), ((3, "L3"), (4, "L3"))])
def test_nothing_is_made_up_where_nothing_was_marked(tmp_path: Path, chosen: tuple[tuple[int, str], ...]) -> None:
    image = one_scan(tmp_path)[0].image
    scan = ScreeningScan("scan_0000", "subject_00", image, slices=chosen, units="HU")
    page, *_ = screen(tmp_path / "out", [scan], {"segmenter": Blind()})
    said = text(page)
    assert "not screened no vertebra was marked in any slice: not screened." in said
    assert "Nothing was marked." in said
    assert "n/a: nothing was marked, or the marks are too small." in said
    assert "probability" not in said
    assert page.count("<img") == 1
    assert page.count("no vertebra was marked") == 1 + len(chosen)


@pytest.mark.parametrize("line", [None, {"slope_mg_cm3_per_hu": 0.8, "intercept_mg_cm3": -5.0, "source": "A"}])
def test_bmd_needs_a_line(tmp_path: Path, line: dict[str, Any] | None) -> None:
    page, record, _ = screen(tmp_path / "out", one_scan(tmp_path), density_line=line)
    density = text(page).split("Density")[1].split("The scan")[0]
    assert f"{record['density']['mean_hu']:.1f} HU" in density
    if line is None:
        assert "mg/cm" not in density
        assert "No calibration line was given (--density_line), so there is no BMD." in density
    else:
        assert f"bone mineral density {record['density']['bmd_mg_cm3']:.1f} mg/cm³" in density
        assert "Calibration line: A." in density
        assert "there is no BMD" not in density


def test_texts_of_headers_and_manifests_are_escaped(tmp_path: Path) -> None:
    hostile = "<script>alert(1)</script>"
    scans = list_screening_scans(
        sagittal_series(tmp_path / "dicom", Manufacturer=hostile, ConvolutionKernel="<b>&", KVP=120)
    )
    chosen = tuple((plane, '"><img src=x>$\\frac$') for plane in (3, 4))
    scan = ScreeningScan("scan_0000", "<i>subject", scans[0].image, slices=chosen, label="normal")
    about = {**ABOUT, "weights": {"trained_on": {"kind": "<u>", "data": hostile}}, "options": {"note": hostile}}
    page, *_ = screen(tmp_path / "out", [scan], about=about, dicom_seg=False)
    for raw in ("<script", "<b>", "<i>", "<u>", "<img src=x>"):
        assert raw not in page
    assert page.count("&lt;script&gt;alert(1)&lt;/script&gt;") >= 3


def test_warnings_are_shown(tmp_path: Path) -> None:
    page, record, found = screen(tmp_path / "out", one_scan(tmp_path))
    # NIfTI without an orientation code, and weights that do not say what they were trained on
    assert "What speaks against it nothing is known of the scans that these weights were trained on" in text(page)
    record = {**record, "warnings": ["kVp is 80 & more"], "input_warnings": ["values went through lossy compression."]}
    write_screening_page(tmp_path / "page.html", record, found)
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "What speaks against it kVp is 80 &amp; more Input: values went through lossy compression." in text(page)
    write_screening_page(tmp_path / "page.html", {**record, "warnings": [], "input_warnings": []}, found)
    assert "What speaks against it" not in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_no_identifier_reaches_a_page(tmp_path: Path) -> None:
    series = sagittal_series(tmp_path / "Doe_Jane_PID0815", Manufacturer="Philips", KVP=120)
    for kept in (False, True):
        page, *_ = screen(tmp_path / "out", list_screening_scans(series), keep_identifiers=kept, overwrite=True)
        said = IMAGES.sub("", page)
        assert "Philips" in said
        assert [value for value in (*PLANTED.values(), "Doe", "Jane", str(tmp_path)) if value in said] == []


def test_the_scan_as_its_files_state_it_and_its_axial_slices_as_they_are(tmp_path: Path) -> None:
    page, *_ = screen(tmp_path / "out", list_screening_scans(sagittal_series(tmp_path / "dicom", KVP=120)))
    said = text(page).split("The scan")[1]
    # stored planes are sagittal, with pixels of 3 x 1 mm; the slices that were looked at are not
    for line in ("tube voltage 120 kV", "kernel not stated", "pixel spacing 1 x 1 mm", "slice interval 3 mm"):
        assert line in said
    assert "slice thickness 3 mm" in said
    assert "cut across sagittal or coronal planes" in text(page)


def test_a_calibrated_page_says_so(tmp_path: Path) -> None:
    page, *_ = screen(tmp_path / "out", one_scan(tmp_path), temperature=1.75, sure=0.7, band=0.1)
    assert "Mean of 18 slices, calibrated (temperature 1.75)." in text(page)
    assert "ahead by 0.10 or more, and is called sure from 0.70 on" in text(page)


def test_how_it_came_about(tmp_path: Path) -> None:
    page, *_ = screen(tmp_path / "out", one_scan(tmp_path), about={**ABOUT, "inputs": {"dataset_dir": {"files": 1}}})
    shown = page.split("<pre>")[1].split("</pre>")[0].replace("&#34;", '"')
    assert json.loads(shown)["sha256"] == {"weights": "ab", "segmentation": "cd"}
    assert json.loads(shown)["inputs"] == {"dataset_dir": {"files": 1}}


def test_a_scan_that_fails_has_no_page(tmp_path: Path) -> None:
    scans = list_screening_scans(lumbar_files.write_manifest(tmp_path), levels=lumbar_files.LEVELS, per_level=1)[:2]
    screen(tmp_path / "out", scans)
    (tmp_path / "scan0.nii").write_bytes(b"no NIfTI")
    with pytest.raises(BatchError):
        screen(tmp_path / "out", scans, overwrite=True)
    assert [path.parent.name for path in tmp_path.rglob("screening.html")] == ["scan_0001"]


def test_the_same_screening_gives_the_same_page(tmp_path: Path) -> None:
    pages = [screen(tmp_path / name, one_scan(tmp_path))[0] for name in "ab"]
    assert pages[0] == pages[1]
    assert np.unique(pages).size == 1
