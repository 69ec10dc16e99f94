"""Pages of bundles: whole, linked, and the same each time."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from bonemonai.errors import InputError, OutputError
from bonemonai.sharing import write_bundle_pages
from tests.command_line import call
from tests.conftest import ROOT
from tests.sharing.small_bundle import CARD, INFERENCE, METADATA, README, names_in, write_bundle

BUNDLES = sorted(path for path in (ROOT / "bundles").iterdir() if path.is_dir())
VOID = {"meta", "br", "img", "hr"}


class Page(HTMLParser):
    """What is on a page: its anchors, links, sources and code; tags that are not closed are an error."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.sources: list[str] = []
        self.code: set[str] = set()
        self._open: list[str] = []
        self.text = path.read_text(encoding="utf-8")
        self.feed(self.text)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self._open.append(tag)
        for name, value in attrs:
            if name in ("id", "href", "src"):
                {"id": self.ids, "href": self.links, "src": self.sources}[name].append(str(value))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag, self.getpos()

    def handle_data(self, data: str) -> None:
        if "code" in self._open:
            self.code.add(data)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    write_bundle_pages(BUNDLES, folder)
    return folder


def small(folder: Path, **metadata: Any) -> Path:
    return write_bundle(folder, {"configs/metadata.json": {**METADATA, **metadata}})


def test_every_bundle_has_a_page_and_all_links_lead_somewhere(site: Path) -> None:
    assert names_in(site) == sorted([*(f"{bundle.name}.html" for bundle in BUNDLES), "index.html"])
    pages = {path.name: Page(path) for path in site.iterdir()}
    assert {f"{bundle.name}.html" for bundle in BUNDLES} <= set(pages["index.html"].links)
    for page in pages.values():
        assert len(set(page.ids)) == len(page.ids)
        assert page.sources == []
        for link in page.links:
            target, _, anchor = link.partition("#")
            assert not target or unquote(target) in pages, link
            assert not anchor or anchor in page.ids, link


@pytest.mark.parametrize("bundle", BUNDLES, ids=lambda path: path.name)
def test_every_option_of_every_config_is_on_the_page(bundle: Path, site: Path) -> None:
    page = Page(site / f"{bundle.name}.html")
    for file in (bundle / "configs").glob("*.json"):
        if file.name != "metadata.json":
            assert file.name in page.ids
            assert json.loads(file.read_text()).keys() - {"_desc_"} <= page.code
    assert str(ROOT) not in page.text
    for weights in (bundle / "models").glob("*.pt"):
        assert hashlib.sha256(weights.read_bytes()).hexdigest() in page.text
    for section in re.findall(r"^## (.*)", (bundle / "docs" / "README.md").read_text(), re.M):
        assert re.sub(r"[`*]", "", section).split(",")[0] in page.text


def test_a_page_says_what_it_is_about(tmp_path: Path) -> None:
    weights = b"weights"
    card = {**CARD, "sha256": hashlib.sha256(weights).hexdigest()}
    files = {"models/model.pt": weights, "models/model.json": card}
    folder = write_bundle(tmp_path / "small", files)
    assert write_bundle_pages([folder], tmp_path / "site") == [
        tmp_path / "site" / n for n in ("index.html", "small.html")
    ]
    page = (tmp_path / "site" / "small.html").read_text()
    for text in (
        "not a medical device", "phantoms say nothing", "Tests. Not a medical", "It was 0.5.", "A paper.", "0.5123",
        "No data are shipped.", "torch.nn.Linear(in_features=@width, out_features=2)", "a phantom", card["sha256"],
    ):  # fmt: skip
        assert text in page
    assert "trained on data of this kind: synthetic" in page
    assert "synthetic" in (tmp_path / "site" / "index.html").read_text()


def test_weights_that_nothing_is_known_of_are_named(tmp_path: Path) -> None:
    write_bundle_pages([write_bundle(tmp_path / "a", {"models/model.pt": b"x"})], tmp_path / "site")
    page = (tmp_path / "site" / "a.html").read_text()
    assert "models/model.pt: trained on data of this kind: unknown." in page
    assert "No card says what they were trained on." in page


def test_the_same_bundles_give_the_same_bytes_anywhere(site: Path, tmp_path: Path) -> None:
    for bundle in BUNDLES:
        shutil.copytree(bundle, tmp_path / "copies" / bundle.name, ignore=shutil.ignore_patterns("eval"))
    for _ in range(2):  # pages of an earlier call are replaced
        write_bundle_pages(sorted((tmp_path / "copies").iterdir()), tmp_path / "again")
    for path in site.iterdir():
        assert (tmp_path / "again" / path.name).read_bytes() == path.read_bytes()


def test_what_a_bundle_says_is_text(tmp_path: Path) -> None:
    evil = "<script>alert(1)</script>"
    inference = {**INFERENCE, "_desc_": evil, evil: evil}
    files = {
        "configs/metadata.json": {**METADATA, "name": evil, "task": evil, "references": [evil]},
        "configs/inference.json": inference,
        "docs/README.md": README + f"\n{evil}\n\n## {evil}\n",
        "docs/data_license.txt": evil,
    }
    write_bundle_pages([write_bundle(tmp_path / "a", files)], tmp_path / "site")
    for path in (tmp_path / "site").iterdir():
        assert "<script" not in path.read_text()
        Page(path)


def test_nothing_of_others_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "index.html").write_text("mine")
    with pytest.raises(OutputError, match=r"index.html: exists already, and is no page of bonemonai"):
        write_bundle_pages([small(tmp_path / "a")], tmp_path / "site")
    assert names_in(tmp_path / "site") == ["index.html"]


def test_refusals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    assert call("bundle", "docs", "-o", "site") == 2
    assert capsys.readouterr().err == "bonemonai: error: bundles: no bundles are here; name their folders.\n"
    one, other = small(tmp_path / "x" / "a"), small(tmp_path / "y" / "A")
    with pytest.raises(InputError, match="would be one page; rename a bundle's folder"):
        write_bundle_pages([one, other], tmp_path / "site")
    with pytest.raises(InputError, match="would be one page"):
        write_bundle_pages([small(tmp_path / "index")], tmp_path / "site")
    wrong = write_bundle(tmp_path / "w", {"models/model.pt": b"x", "models/model.json": {**CARD, "sha256": "0"}})
    with pytest.raises(InputError, match=r"^models/model.json: is the card of other weights"):
        write_bundle_pages([wrong], tmp_path / "site")
    with pytest.raises(InputError, match="is no folder of a bundle"):
        write_bundle_pages([tmp_path / "gone"], tmp_path / "site")
    assert not (tmp_path / "site").exists()


def test_command_takes_the_folder_of_bundles(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    small(tmp_path / "bundles" / "a b", name="One")
    assert call("bundle", "docs", "-o", "site") == 0
    assert Page(tmp_path / "site" / "index.html").links == ["a%20b.html"]
    assert capsys.readouterr().out.count("written:") == 2
