from __future__ import annotations

import importlib

import monai
import pytest
from monai.bundle import ComponentLocator

from bonemonai.sharing.allowed_names import full_target, is_allowed, is_runner, may_be_called


@pytest.mark.parametrize(
    "name",
    [
        "torch.nn.Linear", "torch.optim.lr_scheduler.LambdaLR", "torch.float32", "torch.distributed.init_process_group",
        "torch.nn.SyncBatchNorm.convert_sync_batchnorm", "torch.utils.data.Subset", "numpy.concatenate", "pathlib.Path",
        "monai.networks.nets.BasicUNet", "monai.networks.nets.basic_unet.BasicUNet", "monai.handlers.from_engine",
        "monai.utils.set_determinism", "monai.transforms.Compose", "ignite.handlers.tqdm_logger.ProgressBar",
        "ignite.metrics.Accuracy", "torchvision.models.vgg16", "math.sqrt", "os.path.join",
        "bonemonai.engines.check_run", "bonemonai.networks.LacunaUNet",
        "bonemonai.analysis.screening_evaluation.SCORE_FILES",
    ],
)  # fmt: skip
def test_what_computes_is_allowed(name: str) -> None:
    assert is_allowed(name)


@pytest.mark.parametrize(
    "name",
    [
        "os", "os.system", "os.environ", "os.path.os.system", "subprocess.run", "builtins.eval", "eval", "sys.exit",
        "torch", "torch.load", "torch.save", "torch.os.system", "torch.hub.load", "torch.jit.load", "torch.nn",
        "torch.nn.functional.torch", "torch.utils.cpp_extension.load", "torch.package.PackageImporter",
        "torch.serialization.load", "torch.ops.load_library", "numpy.load", "numpy.fromfile", "numpy.f2py.os.system",
        "numpy.memmap", "pathlib.os.system", "pathlib.Path.unlink", "importlib.import_module", "pickle.loads",
        "monai", "monai.transforms", "monai.bundle.run", "monai.bundle.ConfigParser", "monai.apps.download_url",
        "monai.utils.misc.run_cmd", "monai.utils.optional_import", "monai.utils.module.instantiate",
        "monai.transforms.io.array.os.system", "monai.transforms.io.array.Path", "monai.data.NumpyReader",
        "monai.data.utils.pickle_hashing", "monai.networks.trt_compiler.TrtCompiler", "monai.handlers.LogfileHandler",
        "monai.handlers.MLFlowHandler", "monai.losses.PerceptualLoss", "monai.apps.auto3dseg.BundleGen",
        "ignite.handlers.MLflowLogger", "ignite.handlers.checkpoint.tempfile.NamedTemporaryFile",
        "ignite.metrics.subprocess.Popen", "ignite.metrics.os.System",
        "monai.transforms.subprocess.Popen",
        "ignite.handlers.wandb_logger.WandBLogger", "torchvision.models.utils",
        "torchvision.models._utils.os.system", "bonemonai.data", "bonemonai.data.atomic.os.system",
        "bonemonai.data.atomic.shutil.rmtree", "bonemonai.data.atomic.atomic_path", "bonemonai.__main__.main",
        "bonemonai.engines.plan_inference", "bonemonai.networks.import_torchvision_models",
        "bonemonai.phantoms.write_srmct_study", "bonemonai.demo.run_demo", "torch.nn.__builtins__", "os..system",
        "torch.nn.Linear.", " torch.nn.Linear", "",
    ],
)  # fmt: skip
def test_what_runs_reads_or_writes_anything_is_not(name: str) -> None:
    assert not is_allowed(name)
    assert full_target(name) is None


def test_bare_names_are_monais_own() -> None:
    """Compared with the table that MONAI looks them up in, for every name of it."""
    importlib.import_module("monai.bundle")
    locator = ComponentLocator()
    locator.get_component_module_name("Compose")
    table = locator._components_table or {}
    assert len(table) > 1000, monai.__version__
    allowed = {name: full_target(name) for name in table if full_target(name) is not None}
    assert len(allowed) > 500
    for name, target in allowed.items():
        assert str(target).rpartition(".")[0] in table[name], name
    refused = (
        "run",
        "run_cmd",
        "BundleGen",
        "ConfigParser",
        "optional_import",
        "instantiate",
        "download_url",
        "AutoRunner",
    )
    assert [name for name in refused if name in allowed] == []
    assert {"resnet50", "DenseNet121", "LambdaD", "Lambdad", "SupervisedTrainer", "DataLoader"} <= set(allowed)
    assert [full_target(name) for name in ("eval", "exec", "open", "PIL", "antigravity", "NoSuchName")] == [None] * 6


def test_what_looks_up_or_runs_others_stands_in_no_expression() -> None:
    for name in ("monai.transforms.LoadImaged", "monai.transforms.SaveImage", "monai.data.PersistentDataset"):
        assert is_allowed(name)
        assert not may_be_called(name)
    assert is_runner("bonemonai.engines.CrossValidation")
    assert not may_be_called("bonemonai.engines.ParameterSweep")
    assert may_be_called("monai.transforms.Compose")
