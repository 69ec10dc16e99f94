"""The commands as they are typed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bonemonai.sharing.bundle_files import bundle_files, code_digest
from tests.command_line import call
from tests.conftest import ROOT
from tests.sharing.archives import write_tar
from tests.sharing.small_bundle import INFERENCE, METADATA, README, names_in, write_bundle
from tests.sharing.test_weights_check import packed, weights

BUNDLES = sorted(path for path in (ROOT / "bundles").iterdir() if path.is_dir())
SHIPPED = ROOT / "bundles" / "femur_srmct_osteoporosis_mga"


def test_verify_of_the_projects_bundles_takes_no_torch_and_no_second() -> None:
    code = (
        "import sys, time\nfrom bonemonai.__main__ import main\n"
        "for path in sys.argv[1:]:\n    started = time.process_time()\n"
        "    try:\n        main(['bundle', 'verify', path])\n"
        "    except SystemExit as stop:\n        assert not stop.code\n"
        "    print('seconds', time.process_time() - started)\n"
        "print('heavy:', [name for name in ('torch', 'monai', 'pandas', 'ignite', 'numpy') if name in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code, *BUNDLES], capture_output=True, text=True, check=True)
    assert "heavy: []" in run.stdout
    seconds = [float(line.split()[1]) for line in run.stdout.splitlines() if line.startswith("seconds")]
    assert len(seconds) == len(BUNDLES)
    assert max(seconds) < 1
    assert run.stdout.count("all on the list") == len(BUNDLES)
    assert run.stderr == ""


def test_a_shipped_bundle_goes_there_and_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    archive, folder, dump = tmp_path / "a.tar.gz", tmp_path / "out", tmp_path / "weights.json"
    assert call("bundle", "pack", SHIPPED, "-o", archive) == 0
    assert call("bundle", "unpack", archive, "--to", folder) == 0
    assert call("bundle", "verify", archive, "--load", "--dump", dump) == 0
    shown = capsys.readouterr()
    assert "tensors, finite; loaded into LacunaUNet" in shown.out
    assert shown.err == ""
    found = json.loads(dump.read_text())
    assert found["bundle"] == SHIPPED.name
    card = json.loads((SHIPPED / "models" / "model.json").read_text())
    described = found["weights"]["models/model.pt"]
    assert described["sha256"] == card["sha256"]
    assert described["network"] == "LacunaUNet"
    assert {"shape", "dtype"} == set(next(iter(described["tensors"].values())))
    assert call("bundle", "diff", SHIPPED, archive, "--load") == 0
    assert capsys.readouterr().out == ""


def test_diff_exits_1_where_anything_differs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = write_bundle(tmp_path / "one", {"models/model.pt": packed(weights())})
    files = {"models/model.pt": packed(weights(2.0)), "configs/inference.json": {**INFERENCE, "width": 5}}
    other = write_bundle(tmp_path / "other", files)
    assert call("bundle", "diff", one, other, "--load") == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "~ configs/inference.json: width: 3 -> 5"
    assert lines[1].startswith("~ models/model.pt: sha256")
    assert lines[2] == "~ models/model.pt: same keys, shapes and types, other values"
    assert call("bundle", "diff", one, one) == 0


@pytest.mark.parametrize(
    ("command", "code", "line"),
    [
        (
            ["verify", "evil"],
            2,
            "configs/inference.json: x: \"$__import__('os').system('touch pwned')\" uses __import__",
        ),
        (["verify", "evil", "--trust-code", "00"], 2, "--trust-code: is not the digest"),
        (["verify", "evil", "--load"], 2, "configs/inference.json: x: "),
        (["verify", "gone"], 2, "gone: no such file or folder."),
        (["verify", "whole", "--dump", "x.json"], 2, "--dump: needs --load."),
        (["verify", "slip.tar.gz"], 2, "slip.tar.gz: holds '../evil.md', which leads out of its folder."),
        (
            ["unpack", "slip.tar.gz", "--to", "out"],
            2,
            "slip.tar.gz: holds '../evil.md', which leads out of its folder.",
        ),
        (["unpack", "slip.tar.gz", "--to", "whole"], 4, "whole: holds something already"),
        (["pack", "evil", "-o", "a.zip"], 2, "configs/inference.json: x: "),
        (
            ["pack", "private", "-o", "a.zip"],
            2,
            "docs/README.md: line 21 holds what looks like an identifier of DICOM (Pati...)",
        ),
        (["pack", "whole", "-o", "slip.tar.gz"], 4, "slip.tar.gz: exists already"),
        (["pack", "whole"], 2, "bonemonai bundle pack: Missing option '-o'"),
        (["diff", "whole", "gone"], 2, "gone: no such file or folder."),
    ],
)
def test_refusals_are_one_line(
    command: list[str], code: int, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    write_bundle(Path("whole"))
    evil = {**INFERENCE, "x": "$__import__('os').system('touch pwned')"}
    write_bundle(Path("evil"), {"configs/inference.json": evil})
    write_bundle(Path("private"), {"docs/README.md": README + "\nPatientName: DOE\n"})
    write_tar(Path("slip.tar.gz"), ("../evil.md", b"x"))
    before = names_in(tmp_path)
    assert call("bundle", *command) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(f"bonemonai: error: {line}")
    assert captured.err.count("\n") == 1
    assert "DOE" not in captured.err
    assert names_in(tmp_path) == before


def test_trusted_code_runs_only_when_it_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    width = "$3 + len(str(pathlib.Path('pwned').mkdir())) - len('None')"
    files = {"configs/inference.json": {**INFERENCE, "width": width}, "configs/metadata.json": METADATA}
    folder = write_bundle(tmp_path / "b", {**files, "models/model.pt": packed(weights())})
    digest = code_digest(bundle_files(folder))
    assert call("bundle", "verify", folder, "--load") == 2
    assert call("bundle", "verify", folder, "--trust-code", digest) == 0
    assert not (tmp_path / "pwned").exists()
    assert "1 of them trusted, not checked" in capsys.readouterr().out
    assert call("bundle", "verify", folder, "--trust-code", digest, "--load") == 0
    assert (tmp_path / "pwned").exists()
