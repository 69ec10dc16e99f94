"""The demo's bookkeeping; `make demo` itself takes minutes and is run by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from bonemonai import demo
from bonemonai.errors import BonemonaiError, InputError


def test_a_step_is_passed_over_only_while_nothing_changed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output, calls = tmp_path / "out", []

    def run() -> None:
        calls.append(1)
        output.write_text("made")

    for digest in ("a", "a", "b", "b"):
        demo._Steps(tmp_path / "stamps.json")("1/1 step", digest, [output], run)
    assert len(calls) == 2
    output.unlink()
    demo._Steps(tmp_path / "stamps.json")("1/1 step", "b", [output], run)
    assert len(calls) == 3
    assert capsys.readouterr().out.count("up to date") == 2


def test_a_failed_step_leaves_no_stamp(tmp_path: Path) -> None:
    def fail() -> None:
        raise BonemonaiError("step", "fell over")

    steps = demo._Steps(tmp_path / "stamps.json")
    with pytest.raises(BonemonaiError, match="fell over"):
        steps("1/1 step", "a", [tmp_path], fail)
    assert not (tmp_path / "stamps.json").exists()


def test_a_damaged_stamp_file_repeats_the_work(tmp_path: Path) -> None:
    (tmp_path / "stamps.json").write_text("{torn")
    calls: list[int] = []
    demo._Steps(tmp_path / "stamps.json")("1/1 step", "a", [tmp_path], lambda: calls.append(1))
    assert calls == [1]


def test_the_demo_runs_the_bundle_that_exists() -> None:
    for name in ("train_segmentation", "smoke", "inference"):
        assert (demo.BUNDLE / "configs" / f"{name}.json").is_file()


def test_without_bundles_it_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "BUNDLE", tmp_path / "bundles" / "x")
    with pytest.raises(InputError, match="from a source checkout"):
        demo.run_demo(tmp_path / "demo")
    assert list(tmp_path.iterdir()) == []


def test_a_child_that_fails_is_reported() -> None:
    with pytest.raises(BonemonaiError, match="ended with exit code 1"):
        demo._bundle_run(["/nowhere.json"])
