"""Of every bundle's contract: its networks for programs that know nothing of bundles."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from monai.bundle import verify_net_in_out

from tests.bundle_case import BundleCase
from tests.bundle_exports import (
    TOLERANCE,
    defined_by,
    export_section,
    exported,
    inputs_of,
    largest_difference,
    loaded,
    run_documented,
    run_onnx,
    sides_of,
    sides_of_onnx,
    weights_of,
)


@pytest.mark.filterwarnings(
    "ignore::torch.jit.TracerWarning",
    # PyTorch's own, while it makes ONNX
    "ignore:`isinstance.treespec, LeafSpec:FutureWarning",
)
class ExportContract:
    """See :class:`tests.bundle_contract.BundleContract`."""

    @pytest.fixture(scope="class")
    @classmethod
    def weights(cls, case: BundleCase, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
        folder = tmp_path_factory.mktemp("weights")
        return {network.name: weights_of(case, network, folder) for network in case.networks}

    @pytest.fixture
    def elsewhere(self, weights: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """A working directory in which weights lie that are not the bundle's."""
        for path in {path.parent for path in weights.values() if "models" not in path.parts}:
            shutil.copytree(path, tmp_path, dirs_exist_ok=True)
        monkeypatch.chdir(tmp_path)
        return tmp_path

    def test_networks_take_and_give_what_is_said(self, case: BundleCase, weights: dict[str, Path]) -> None:
        files = {"meta_file": str(case.config("metadata")), "config_file": str(case.config("inference"))}
        verify_net_in_out(**files, device="cpu", **case.verified)
        for network in case.networks:
            for image in inputs_of(network.shapes()):
                with torch.no_grad():
                    found = loaded(case, network, weights[network.name])(image)
                found = found.logits if hasattr(found, "logits") else found
                assert tuple(found.shape[:2]) == (len(image), network.channels), network.name

    @torch.no_grad()
    def test_torch_export_and_onnx_take_multiples_of_the_stride(
        self, case: BundleCase, weights: dict[str, Path], tmp_path: Path
    ) -> None:
        networks = {network: loaded(case, network, weights[network.name]) for network in case.networks}
        programs = {network: exported(defined, network) for network, defined in networks.items()}
        for network, program in programs.items():
            for image in inputs_of(network.shapes()):
                found = program.module()(image)
                assert largest_difference(found, networks[network](image)) <= TOLERANCE, network.name
        _skip_without_onnx()
        for network, program in programs.items():
            path = tmp_path / f"{network.name}.onnx"
            # the sides once more, for their names
            torch.onnx.export(program, f=path, dynamic_shapes=sides_of(network), external_data=False, verbose=False)
            assert sides_of_onnx(path) == network.declared()
            for image in inputs_of(network.shapes()):
                found, expected = run_onnx(path, image), networks[network](image)
                assert largest_difference(found, expected, scaled=True) <= TOLERANCE, network.name

    @torch.no_grad()
    def test_documented_commands_export_it(self, case: BundleCase, weights: dict[str, Path], elsewhere: Path) -> None:
        _skip_without_onnx()
        run_documented(case)
        for network in case.networks:
            defined = loaded(case, network, weights[network.name])
            script = torch.jit.load(elsewhere / f"{network.name}.ts")
            for image in inputs_of(network.script_shapes()):
                assert largest_difference(script(image), defined(image)) <= TOLERANCE, network.name
        made = [network for network in case.networks if (elsewhere / f"{network.name}.onnx").exists()]
        assert made
        for network in made:
            path = elsewhere / f"{network.name}.onnx"
            sides = tuple(side for side in sides_of_onnx(path) if isinstance(side, int))
            defined = loaded(case, network, weights[network.name])
            for image in inputs_of([(*network.shape[:-2], *sides)] if sides else network.shapes()):
                found = run_onnx(path, image)
                assert largest_difference(found, defined(image), scaled=True) <= TOLERANCE, network.name

    def test_exceptions_are_named_and_still_needed(self, case: BundleCase, weights: dict[str, Path]) -> None:
        section = export_section(case)
        for network in case.networks:
            defined = loaded(case, network, weights[network.name])
            if network.traced_since is not None:
                with pytest.raises(Exception, match=network.traced_since):
                    torch.jit.script(defined)
                assert "is traced" in section
            if network.stride is None:
                assert "fixed" in section
                rows, columns = network.shape[-2:]
                with pytest.raises((RuntimeError, ValueError)):
                    defined(torch.rand(*network.shape[:-2], 2 * rows, 2 * columns))
        for network in case.beyond_export:
            assert f"`{network.id}`" in section
            defined = defined_by(case, network, next(iter(weights.values()))).eval()
            with pytest.raises(RuntimeError):
                torch.export.export(defined, (torch.rand(network.shape),))


def _skip_without_onnx() -> None:
    for name in ("onnxscript", "onnxruntime"):
        pytest.importorskip(
            name, reason=f"{name} is not installed: ONNX is not tested; pip install 'bonemonai[export]'"
        )
