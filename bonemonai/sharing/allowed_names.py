"""Names that a config may use without being trusted, found without importing what they name."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

# what MONAI puts into every expression's namespace
DEFAULT_ALIASES = {"monai": "monai", "torch": "torch", "np": "numpy", "numpy": "numpy"}
# they run config files, with options that may be expressions themselves
_RUNNERS = ("CrossValidation", "EvaluationMatrix", "ParameterSweep")

_PACKAGE = ("analysis", "data", "engines", "inferers", "losses", "networks", "report", "transforms")
_PACKAGE_DENIED = frozenset({"import_torchvision_models", "plan_inference"})
_IGNITE = ("handlers", "metrics")
_MONAI = ("data", "engines", "handlers", "inferers", "losses", "metrics", "networks.blocks", "networks.layers",
          "networks.nets", "optimizers", "transforms", "visualize")  # fmt: skip
# compilers, trackers that talk to a server, what unpickles, runs code of a hub, or writes lines of any text
_DENIED = re.compile(
    r"Trt\w*|TRT\w*|LLTM\w*|LogfileHandler|(?i:mlflow|clearml|neptune|polyaxon|visdom|wandb)\w*|NumpyReader|"
    r"Perceptual\w*|\w*PerceptualSimilarity|_\w*"
)
_MONAI_FUNCTIONS = ("decollate_batch", "from_engine", "list_data_collate", "no_collation", "pad_list_data_collate",
                    "partition_dataset", "stopping_fn_from_loss", "stopping_fn_from_metric")  # fmt: skip
_MONAI_NETWORK = re.compile(r"(?:se|wide_)?res(?:net|next)\w*\d\w*|densenet\d+|senet\d+")
# they look up a class by a text that they are given, or may unpickle: only as a `_target_`, whose arguments are seen
_ONLY_TARGETS = re.compile(
    r"(?:LoadImage|SaveImage)(?:d|D|Dict)?|ImageDataset|PatchInferer|PersistentDataset|CacheNTransDataset|"
    r"LMDBDataset|GDSDataset"
)
_DTYPES = "bfloat16 bool float float16 float32 float64 half int int8 int16 int32 int64 long uint8"
_LISTS = {
    "torch": f"{_DTYPES} Generator Tensor abs all any arange argmax argmin as_tensor cat clamp device exp eye flatten "
    "full inf isfinite isin isnan linspace log logical_and logical_not logical_or manual_seed max mean min nan no_grad "
    "ones ones_like permute pi round sigmoid softmax sqrt squeeze stack sum tensor unsqueeze where zeros zeros_like",
    "torch.cuda": "current_device device_count is_available set_device",
    "torch.amp": "GradScaler",
    "torch.backends.mps": "is_available",
    "torch.distributed": "barrier destroy_process_group get_rank get_world_size init_process_group is_available "
    "is_initialized",
    "torch.nn.functional": "cross_entropy gelu interpolate l1_loss leaky_relu log_softmax mse_loss normalize one_hot "
    "pad relu sigmoid silu softmax",
    "torch.nn.parallel": "DataParallel DistributedDataParallel",
    "torch.nn.SyncBatchNorm": "convert_sync_batchnorm",
    "torch.utils.data.distributed": "DistributedSampler",
    "numpy": f"{_DTYPES} abs all any arange argmax argmin array asarray bool_ ceil clip concatenate exp eye floor full "
    "inf isfinite isnan linspace log log10 log2 max mean median min nan ndarray newaxis ones percentile pi power prod "
    "quantile round sqrt stack std sum unique var where zeros",
    "numpy.random": "RandomState default_rng",
    "ignite.engine": "Engine Events",
    "pathlib": "Path PurePath",
    "os.path": "basename dirname exists isdir isfile join splitext",
    "functools": "partial",
    "itertools": "accumulate chain combinations product repeat zip_longest",
}
_EXACT = frozenset(f"{module}.{name}" for module, names in _LISTS.items() for name in names.split())
_PATTERNS = re.compile(
    r"math\.[a-z]\w*|torch\.(?:nn|optim|optim\.lr_scheduler|utils\.data)\.[A-Z]\w*|torch\.nn\.init\.[a-z]\w*_|"
    r"torchvision\.transforms\.[A-Z]\w*|"
    r"torchvision\.models\.(?:alexnet|googlenet|inception_v3|(?:wide_)?res(?:net|next)\d+\w*|vgg\d+(?:_bn)?|"
    r"densenet\d+|efficientnet_(?:b\d|v2_[sml])|mobilenet_v[23]\w*|shufflenet_v2_x\w+|squeezenet1_[01]|"
    r"convnext_(?:tiny|small|base|large)|vit_[blh]_\d+|swin_(?:v2_)?[tsb])"
)


_MODULES = (
    *(f"bonemonai.{folder}" for folder in _PACKAGE), *(f"monai.{package}" for package in _MONAI), *_LISTS, "math",
    "ignite.handlers", "ignite.metrics", "torch.nn", "torch.optim", "torch.utils.data", "torchvision.models",
    "torchvision.transforms",
)  # fmt: skip


def is_module(name: str) -> bool:
    """Whether a config may import a module; of what it holds only names that :func:`is_allowed` may be used.

    Args:
        name: dotted.
    """
    return any(_within(name, [module]) or _within(module, [name]) for module in _MODULES)


@cache
def is_allowed(name: str) -> bool:
    """Whether a dotted name is that of a class, function or constant that no config needs to be trusted for.

    Args:
        name: from the top-level package on, such as ``monai.transforms.Resized``.

    Example:
        >>> is_allowed("torch.nn.Linear"), is_allowed("torch.load"), is_allowed("os.system")
        (True, False, False)
    """
    module, _, last = name.rpartition(".")
    if any(part.startswith("_") or not part.isidentifier() for part in name.split(".")):
        return False
    if name.startswith("bonemonai."):
        return _is_of_package(module.split(".")[1:], last)
    if name.startswith("monai."):
        return name == "monai.utils.set_determinism" or _is_of_monai(module, last)
    if name.startswith("ignite.") and name not in _EXACT:
        return last[:1].isupper() and _is_defined("ignite", _IGNITE, module, last)
    return name in _EXACT or _PATTERNS.fullmatch(name) is not None


def may_be_called(name: str) -> bool:
    """Whether an allowed name may stand in an expression, where its arguments cannot be followed.

    Args:
        name: dotted.
    """
    return not is_runner(name) and _ONLY_TARGETS.fullmatch(name.rpartition(".")[2]) is None


def is_runner(name: str) -> bool:
    """Whether what a dotted name stands for runs config files.

    Args:
        name: dotted.
    """
    return name.startswith("bonemonai.") and name.rpartition(".")[2] in _RUNNERS


def full_target(target: str) -> str | None:
    """Dotted name of a ``_target_``, which may be a bare name of MONAI's; None if it is not allowed.

    MONAI looks a bare name up among all that it defines, then among modules and Python's built-ins.

    Args:
        target: a text.

    Example:
        >>> full_target("RandFlipd"), full_target("run_cmd"), full_target("eval")
        ('monai.transforms.spatial.dictionary.RandFlipd', None, None)
    """
    if "." in target:
        return target if is_allowed(target) else None
    modules = _names("monai").get(target, ())
    if not modules or not all(_is_of_monai(module, target) for module in modules):
        return None
    return f"{modules[0]}.{target}"


def _is_of_package(module: list[str], name: str) -> bool:
    """Whether a name is public in one of this package's folders, or a constant that one of their files defines."""
    if not module or module[0] not in _PACKAGE or name in _PACKAGE_DENIED:
        return False
    folder = import_module(f"bonemonai.{module[0]}")  # lazy: this imports none of its files
    if name in folder.__all__:
        return len(module) == 1
    file = Path(str(folder.__file__)).parent / f"{module[-1]}.py"
    if len(module) != 2 or not name.isupper() or not file.is_file():
        return False
    return re.search(rf"^{name} *[:=]", file.read_text(encoding="utf-8"), re.M) is not None


def _is_of_monai(module: str, name: str) -> bool:
    """Whether MONAI defines a name somewhere in a module or package, and it is one of those that only compute."""
    is_network = _within(module, ["monai.networks.nets"]) and _MONAI_NETWORK.fullmatch(name)
    is_known = name[:1].isupper() or name in _MONAI_FUNCTIONS or bool(is_network)
    return is_known and _is_defined("monai", _MONAI, module, name)


def _is_defined(package: str, places: Iterable[str], module: str, name: str) -> bool:
    """Whether the module, in one of the places, or one below it defines the name: what it imports does not count."""
    if not _within(module, [f"{package}.{place}" for place in places]) or _DENIED.fullmatch(name):
        return False
    return any(_within(found, [module]) for found in _names(package).get(name, ()))


def _within(module: str, places: Iterable[str]) -> bool:
    return any(module == place or module.startswith(place + ".") for place in places)


@cache
def _names(package: str) -> dict[str, tuple[str, ...]]:
    """Classes and functions to the modules that define them, by the source: importing MONAI takes many seconds."""
    spec = find_spec(package)
    found: dict[str, list[str]] = {}
    root = Path(str(spec.origin)).parent if spec is not None else Path(package)
    for file in sorted(root.rglob("*.py")):
        module = ".".join((package, *file.relative_to(root).with_suffix("").parts)).removesuffix(".__init__")
        text = file.read_text(encoding="utf-8", errors="replace")
        names = re.findall(r"^(?:class|def) (\w+)", text, re.M)
        for aliases, target in re.findall(r"^((?:\w+ = )+)(\w+)$", text, re.M):
            names += aliases.split(" = ")[:-1] if target in names else []
        for name in names:
            found.setdefault(name, []).append(module)
    return {name: tuple(dict.fromkeys(modules)) for name, modules in found.items()}
