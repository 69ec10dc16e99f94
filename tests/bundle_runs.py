"""Run a bundle's configs in this process, as its tests do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from monai.bundle import create_workflow

from bonemonai.errors import find_bonemonai_error
from tests.conftest import ROOT


class BundleRuns:
    """Workflows of one bundle, by the names of its configs; one that is not the project's is named by its path."""

    def __init__(self, name: str | Path) -> None:
        self.folder = ROOT / "bundles" / name

    def files(self, *names: str) -> list[str]:
        """Paths of configs, overlays last."""
        return [str(self.folder / "configs" / f"{name}.json") for name in names]

    def workflow(self, *names: str, **options: Any) -> Any:
        """What is ready to be run."""
        return create_workflow(config_file=self.files(*names), logging_file=False, **options)

    def refusal(self, *names: str, **options: Any) -> str:
        """The one line that a run ends with."""
        with pytest.raises(Exception) as caught:  # noqa: PT011
            self.workflow(*names, **options).run()
        return str(find_bonemonai_error(caught.value))

    @contextmanager
    def untouched(self) -> Iterator[None]:
        """Nothing is left in the bundle's folder, nor taken out of it."""
        before = sorted(self.folder.rglob("*"))
        yield
        assert sorted(self.folder.rglob("*")) == before
