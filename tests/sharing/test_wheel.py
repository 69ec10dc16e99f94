from __future__ import annotations

import io
import zipfile
from pathlib import Path

import pytest

import bonemonai
from bonemonai.errors import InputError
from bonemonai.sharing.wheel import build_wheel


def test_wheel_holds_this_package() -> None:
    name, content = build_wheel()
    assert name == f"bonemonai-{bonemonai.__version__}-py3-none-any.whl"
    with zipfile.ZipFile(io.BytesIO(content)) as wheel:
        assert wheel.read("bonemonai/errors.py") == (Path(bonemonai.__file__).parent / "errors.py").read_bytes()
        template = Path(bonemonai.__file__).parent / "sharing" / "bundle_template"
        for file in (path for path in template.rglob("*") if path.is_file()):
            name = f"bonemonai/sharing/bundle_template/{file.relative_to(template).as_posix()}"
            assert wheel.read(name) == file.read_bytes()
        for page in Path(bonemonai.__file__).parent.glob("*/*.html.j2"):
            assert f"bonemonai/{page.parent.name}/{page.name}" in wheel.namelist()
        assert not any("__pycache__" in member or member.startswith("tests") for member in wheel.namelist())


def test_without_the_source_it_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bonemonai, "__file__", str(tmp_path / "bonemonai" / "__init__.py"))
    with pytest.raises(InputError, match="--wheel: needs the source of bonemonai"):
        build_wheel()
    (tmp_path / "pyproject.toml").write_text("no toml [")
    with pytest.raises(InputError, match="--wheel: cannot be built here without a network"):
        build_wheel()
