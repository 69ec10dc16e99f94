from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bonemonai.inferers.journal import Journal, read_journals, rewrite_journals


def test_lines_of_all_processes_are_read_and_the_last_of_a_block_counts(tmp_path: Path) -> None:
    with Journal(tmp_path / "journal-0.jsonl") as one, Journal(tmp_path / "journal-1.jsonl") as two:
        one.append((0, 0), "a")
        two.append((16, 0), "b")
        one.append((0, 0), "c")
    assert read_journals(tmp_path) == {(0, 0): "c", (16, 0): "b"}


@given(cut=st.integers(0, 200))
def test_torn_end_costs_the_last_line_only(cut: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Cut anywhere, what is left are whole lines; the next run appends behind them."""
    folder = tmp_path_factory.mktemp("journal")
    path = folder / "journal-0.jsonl"
    blocks = {(16 * n, 0): f"digest {n}" for n in range(4)}
    with Journal(path) as journal:
        for block, digest in blocks.items():
            journal.append(block, digest)
    content = path.read_bytes()
    kept = content[: max(len(content) - cut, 0)]
    path.write_bytes(kept)
    left = read_journals(folder)
    assert left == dict(list(blocks.items())[: kept.count(b"\n")])
    with Journal(path) as journal:
        journal.append((64, 0), "more")
    assert read_journals(folder) == {**left, (64, 0): "more"}


@pytest.mark.parametrize(
    "line", ["", "null", "[]", "{}", '{"block": 3, "sha256": "a"}', '{"block": [1], "sha256": "a"}']
)
def test_lines_that_are_none_do_not_count(line: str, tmp_path: Path) -> None:
    (tmp_path / "journal-0.jsonl").write_text(line + "\n")
    assert read_journals(tmp_path) == {}


def test_rewriting_leaves_one_journal_of_what_is_true(tmp_path: Path) -> None:
    for number in range(3):
        with Journal(tmp_path / f"journal-{number}.jsonl") as journal:
            journal.append((0, 0), f"stale {number}")
    rewrite_journals(tmp_path, {(0, 0): "true", (16, 0): "too"})
    assert [path.name for path in tmp_path.iterdir()] == ["journal-0.jsonl"]
    assert read_journals(tmp_path) == {(0, 0): "true", (16, 0): "too"}
