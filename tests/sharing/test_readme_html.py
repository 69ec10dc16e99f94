from __future__ import annotations

from pathlib import Path

import pytest

from bonemonai.sharing.readme_html import render_readme


def body(text: str, **files: Path) -> str:
    return render_readme(text, files, {"other": "other.html"}).body


def test_the_title_is_left_to_the_page_and_sections_are_named() -> None:
    page = render_readme("# Title\n\ntext\n\n## One, two: `x`\n\n### Deep\n\n## Same\n\n## Same\n", {}, {})
    assert page.sections == [("one-two-x", "One, two: x"), ("same", "Same"), ("same-1", "Same")]
    assert page.body.startswith("<p>text</p>")
    assert '<h3 id="deep">Deep</h3>' in page.body


def test_tables_are_tables() -> None:
    assert "<td><code>a</code></td>" in body("| x | y |\n|---|---|\n| `a` | b |\n")


@pytest.mark.parametrize("text", ["<script>alert(1)</script>", "a <img src=x onerror=alert(1)> b", "<!-- hidden -->"])
def test_html_is_shown_not_used(text: str) -> None:
    assert "<script" not in body(text)
    assert "<img" not in body(text)
    assert "&lt;" in body(text)


@pytest.mark.parametrize(
    ("target", "address"),
    [
        ("../../other/docs/README.md", "other.html"),
        ("https://example.org/a", "https://example.org/a"),
        ("#part", "#part"),
        ("#nowhere", None),
        ("../../third/docs/README.md", None),
        ("../configs/train.json", None),
        ("../../other/LICENSE", None),
        ("../../../other/docs/README.md", None),
        ("javascript:alert(1)", None),
        ("file:///etc/passwd", None),
    ],
)
def test_links_lead_somewhere_or_are_text(target: str, address: str | None) -> None:
    page = body(f"## Part\n\n[the **text**]({target}) and [more](https://example.org/)\n")
    if address is None:
        assert page.count("<a ") == 1
        assert "the <strong>text</strong>" in page or target.startswith(("javascript", "file"))
        assert 'href="javascript' not in page
    else:
        assert f'<a href="{address}">the <strong>text</strong></a>' in page
    assert '<a href="https://example.org/">more</a>' in page


def test_pictures_of_the_bundle_are_put_in_others_are_text(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"png")
    files = {"docs/a.png": tmp_path / "a.png"}
    assert '<img src="data:image/png;base64,cG5n" alt="a plane"' in body("![a plane](a.png)", **files)
    for target in ("b.png", "https://example.org/a.png", "../../../secret.png", "a.svg"):
        page = body(f"![a <plane>]({target})", **files)
        assert "<img" not in page
        assert "a &lt;plane&gt;" in page
