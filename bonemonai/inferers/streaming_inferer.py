"""Inference on volumes of any size: exact or blended, within a memory budget, resumable."""

from __future__ import annotations

import logging
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any, Literal
from weakref import WeakKeyDictionary

import torch
from monai.data.meta_tensor import MetaTensor
from monai.inferers.inferer import Inferer
from monai.inferers.utils import sliding_window_inference
from monai.utils import ensure_tuple_rep
from torch import nn

from bonemonai.data.prepared_volume import PreparedVolume
from bonemonai.errors import BonemonaiError, InputError, as_refusal
from bonemonai.inferers.activation_memory import ActivationMemory, measure_activations
from bonemonai.inferers.allocator import allocator_is_tuned
from bonemonai.inferers.cost import choose_core
from bonemonai.inferers.forward import Forward, network_device
from bonemonai.inferers.outputs import Output
from bonemonai.inferers.overlap_sweep import OverlapSweep
from bonemonai.inferers.plan import StreamPlan, Workload, plan_exact, plan_overlap
from bonemonai.inferers.plane_stream import item_bytes
from bonemonai.inferers.ranks import meet
from bonemonai.inferers.receptive_field import ReceptiveField, check_tiles, pad_to_stride, probe_receptive_field
from bonemonai.inferers.result_writer import ResultWriter
from bonemonai.inferers.run_fingerprint import run_fingerprint
from bonemonai.inferers.scan_sweep import ScanSweep
from bonemonai.inferers.slice_wise import SliceWise
from bonemonai.inferers.tiling import WindowGrid, exact_tiles

logger = logging.getLogger(__name__)

_DEFAULT_ROI = {1: 4096, 2: 512, 3: 96}


# what networks see, by channels, axes, and given halo and stride; it takes seconds to find out
_FIELDS: WeakKeyDictionary[nn.Module, dict[Any, ReceptiveField]] = WeakKeyDictionary()


class StreamingInferer(Inferer):
    """Run a network over a tensor, or over a scan larger than memory.

    Called as ``inferer(inputs, network)`` on a tensor it stands where MONAI's ``SlidingWindowInferer`` stands. Called
    as ``inferer(scan, network, writer=writer)`` on a :class:`bonemonai.data.PreparedVolume` it reads planes as it
    needs them, keeps within its budget, and writes what the writer's outputs make of the predictions.

    Modes:
        exact: tiles with a halo as wide as the network sees; the output is that of the network on the whole plane or
            volume. For networks that do not normalise or pool over space; others are refused, naming the layer
            (MONAI's UNet, BasicUNet, SegResNet do by default; with batch norm UNet and BasicUNet do not).
        gaussian, constant: MONAI's overlapping windows, for any network; the same bits as ``SlidingWindowInferer``.

    Args:
        roi_size: window of the modes gaussian and constant, a number below 1 for a whole axis; in mode exact the
            largest core. Chosen from the budget where not given.
        sw_batch_size: windows a forward pass; in mode exact slices of a 2-D network.
        overlap: share of a window that the next repeats; not used in mode exact.
        mode: see above.
        memory_budget: bytes that inference may take besides the network and the libraries; 2e9 on a CPU, 40 % of the
            device's memory on a GPU, at most 8e9, where not given.
        spatial_dim: axis of a volume that a 2-D network's slices are cut across: 0, 1 or 2; None for a 3-D network.
        sigma_scale: see MONAI.
        padding_mode: see MONAI; scans know "constant" only.
        cval: see MONAI.
        recompute: where a slab does not fit into the budget, run MONAI's batches all the same, for the same bits.
        halo: of mode exact, voxels an axis, in place of probing the network; checked all the same.
        stride: of mode exact, given together with ``halo``.
        skip_key: entry of a scan's pre-processing, such as a bone mask; tiles where it is 0 everywhere are not run.
        channels_last: lay tiles out channels last.
        compile_backend: compile the network by ``torch.compile`` with this backend, "inductor" for instance.
        readers: threads that read and pre-process planes.
        strict: put a digest of every byte of the scan into the fingerprint instead of samples.
        progress: show a bar on standard error.

    Example:
        >>> network = torch.nn.Conv2d(1, 2, 3, padding=1).eval()
        >>> image = torch.rand(1, 1, 64, 64)
        >>> torch.allclose(StreamingInferer(roi_size=16)(image, network), network(image), atol=1e-6)
        True
    """

    def __init__(
        self,
        roi_size: Sequence[int] | int | None = None,
        sw_batch_size: int = 1,
        overlap: Sequence[float] | float = 0.25,
        mode: Literal["exact", "gaussian", "constant"] = "exact",
        *,
        memory_budget: float | None = None,
        spatial_dim: int | None = None,
        sigma_scale: Sequence[float] | float = 0.125,
        padding_mode: str = "constant",
        cval: float = 0.0,
        recompute: bool = False,
        halo: Sequence[int] | int | None = None,
        stride: Sequence[int] | int | None = None,
        skip_key: str | None = None,
        channels_last: bool = False,
        compile_backend: str | None = None,
        readers: int = 1,
        strict: bool = False,
        progress: bool = False,
    ) -> None:
        super().__init__()
        if mode not in ("exact", "gaussian", "constant"):
            raise ValueError(f"mode must be exact, gaussian or constant, got {mode!r}.")
        if sw_batch_size < 1 or readers < 1:
            raise ValueError(f"sw_batch_size and readers must be >= 1, got {sw_batch_size} and {readers}.")
        if memory_budget is not None and not memory_budget > 0:
            raise ValueError(f"memory_budget must be > 0 (bytes), got {memory_budget}.")
        if spatial_dim not in (None, 0, 1, 2):
            raise ValueError(f"spatial_dim must be 0, 1, 2 or None, got {spatial_dim}.")
        if (halo is None) != (stride is None):
            raise ValueError("halo and stride must be given together.")
        self.roi_size, self.sw_batch_size, self.overlap, self.mode = roi_size, sw_batch_size, overlap, mode
        self.memory_budget, self.spatial_dim = memory_budget, spatial_dim
        self.sigma_scale, self.padding_mode, self.cval, self.recompute = sigma_scale, padding_mode, cval, recompute
        self.halo, self.stride = halo, stride
        self.skip_key, self.channels_last, self.readers = skip_key, channels_last, readers
        self.compile_backend = compile_backend
        self.strict, self.progress = strict, progress

    def __call__(
        self,
        inputs: torch.Tensor | PreparedVolume,
        network: Callable[..., Any],
        *args: Any,
        writer: ResultWriter | None = None,
        **kwargs: Any,
    ) -> Any:
        """Infer.

        Args:
            inputs: tensor (B, C, spatial...), or a scan.
            network: takes and returns (B, C, spatial...), 2-D if ``spatial_dim`` is set.
            args: passed on to the network.
            writer: takes the results of a scan.
            kwargs: passed on to the network.

        Returns:
            For a tensor, the network's output; for a scan, what was done, as ``run.json`` says it.

        Raises:
            InputError: if the network cannot be tiled exactly, or the budget is too small.
            NumericalError: if a prediction for a scan holds NaN or infinite values.
        """
        if isinstance(inputs, PreparedVolume):
            if writer is None:
                raise ValueError("a scan needs a writer; only tensors are returned.")
            with torch.no_grad():
                return self._stream(inputs, network, writer, *args, **kwargs)
        if self.mode == "exact":
            return self._exact_tensor(inputs, network, *args, **kwargs)
        return self._windows_tensor(inputs, network, *args, **kwargs)

    def plan(self, scan: PreparedVolume, network: Callable[..., Any], outputs: Sequence[Output]) -> StreamPlan:
        """Decide how a scan would be inferred; reads one of its planes.

        Args:
            scan: the scan.
            network: see :meth:`__call__`.
            outputs: what would be kept.

        Raises:
            InputError: see :meth:`__call__`.
        """
        return self._prepare(scan, network, outputs)[0]

    def seconds_a_forward(
        self, scan: PreparedVolume, network: Callable[..., Any], plan: StreamPlan, times: int
    ) -> float:
        """Time forward passes of a plan's tiles or windows on numbers of no meaning; the median, after one to warm up.

        Args:
            scan: gives the number of channels.
            network: see :meth:`__call__`.
            plan: of :meth:`plan`.
            times: how many to time.
        """
        middle = scan.shape[0] // 2
        channels = len(scan.planes(middle, middle + 1)[0][scan.image_key])
        size = tuple(plan.core)
        if self.mode == "exact":
            field = self._field(network, channels, 3)
            size = tuple(
                min(n + 2 * halo, -(-full // step) * step)
                for n, halo, step, full in zip(size, field.halo, field.stride, scan.shape, strict=True)
            )
        forward = self._forward(network, 3)
        batch = torch.rand(1 if self.mode == "exact" else plan.batch, channels, *size)
        seconds = []
        with torch.no_grad():
            for _ in range(times + 1):
                start = time.perf_counter()
                float(forward(batch).sum())  # waits for the device
                seconds.append(time.perf_counter() - start)
        return statistics.median(seconds[1:])

    # tensors

    def _windows_tensor(self, inputs: torch.Tensor, network: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        dims = inputs.ndim - 2
        roi = self._roi(tuple(inputs.shape[2:]))
        sliced = self._sliced(network, dims)
        return sliding_window_inference(
            inputs,
            roi,
            self.sw_batch_size,
            sliced,
            self.overlap,
            self.mode,
            self.sigma_scale,
            self.padding_mode,
            self.cval,
            network_device(network),
            inputs.device,
            self.progress,
            None,
            None,
            None,
            -1,
            False,
            *args,
            **kwargs,
        )

    def _exact_tensor(self, inputs: torch.Tensor, network: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        dims = inputs.ndim - 2
        image = inputs.as_tensor() if isinstance(inputs, MetaTensor) else inputs
        field = self._field(network, image.shape[1], dims)
        forward = self._forward(network, dims, *args, **kwargs)
        shape = tuple(image.shape[2:])
        choice = choose_core(
            shape,
            field,
            self._activations(network, image.shape[1], field),
            image.shape[1],
            budget=self._budget(network) / len(image),
            tuned=allocator_is_tuned() or forward.device.type != "cpu",
            most=self._most(shape),
            fixed=self._slices_at_once(shape),
        )
        output: torch.Tensor | None = None
        for tile in exact_tiles([slice(0, size) for size in shape], shape, choice.core, field):
            read, cut, core = ((slice(None), slice(None), *box) for box in (tile.read, tile.cut, tile.core))
            part = forward(pad_to_stride(image[read], field.stride))[cut]
            if output is None:
                output = part.new_empty((len(image), part.shape[1], *shape), device=image.device)
            output[core] = part.to(image.device)
        return MetaTensor(output).copy_meta_from(inputs) if isinstance(inputs, MetaTensor) else output

    # scans

    def _stream(
        self, scan: PreparedVolume, network: Callable[..., Any], writer: ResultWriter, *args: Any, **kwargs: Any
    ) -> dict[str, Any]:
        if args or kwargs:
            raise InputError("network", "takes no further arguments over a scan: no record would say which.")
        with writer.lock(scan.volume) as folder:
            failure: BonemonaiError | None = None
            try:
                folder.count_grey_values(scan, memory=self._budget(network) / 4, progress=self.progress)
                plan, how = self._prepare(scan, network, writer.outputs)
                settings, grid = self._settings(how), plan.describe()
                expected = run_fingerprint(scan, network, writer, inferer=settings, grid=grid, strict=self.strict)
            except Exception as error:
                failure = as_refusal(error, scan.volume.path)
            # all processes go on, or none
            meet(failure)
            with folder.run(expected, plan.blocks(scan.shape), plan.chunk) as run:
                about = {**grid, "bands": plan.bands, "passes": round(plan.passes, 4), "resumed": run.resumed}
                about |= {"halo": how.halo} if isinstance(how, ReceptiveField) else {}
                run.about |= {"mode": self.mode, **about}
                if not run.complete:
                    forward = self._forward(network, 3, *args, **kwargs)
                    sweep = ScanSweep(scan, plan, how, forward, self.skip_key, self.readers, self.progress)
                    skipped = sweep.run(run, writer.outputs)
                    run.about |= {
                        "skipped_share": skipped, "batches_halved": forward.halved, "forwards": forward.passes
                    }  # fmt: skip
                return dict(run.about, complete_before=run.complete)

    def _prepare(
        self, scan: PreparedVolume, network: Callable[..., Any], outputs: Sequence[Output]
    ) -> tuple[StreamPlan, ReceptiveField | OverlapSweep]:
        if self.padding_mode != "constant":
            raise InputError("padding_mode", f"must be constant over a scan, got {self.padding_mode!r}.")
        middle = scan.shape[0] // 2
        with torch.no_grad():
            item = scan.planes(middle, middle + 1)[0]
        for key in {key for output in outputs for key in output.keys} | ({self.skip_key} if self.skip_key else set()):
            if key not in item:
                raise InputError("preprocessing", f"gives no entry {key!r}; it gives {', '.join(sorted(item))}.")
        channels = len(item[scan.image_key])
        tuned = allocator_is_tuned() or network_device(network).type != "cpu"
        field = self._field(network, channels, 3) if self.mode == "exact" else None
        work = Workload(
            shape=scan.shape,
            in_channels=channels,
            item_bytes=item_bytes(item) / (scan.shape[1] * scan.shape[2]),
            raw_bytes=scan.volume.dtype.itemsize,
            planes_at_once=min(scan.volume.planes_at_once, scan.shape[0]),
            output_bytes=sum(output.dtype.itemsize for output in outputs),
            activations=self._activations(network, channels, field),
            whole_planes=any(output.derived_from for output in outputs),
            working_bytes=sum(output.working_bytes() for output in outputs),
        )
        budget = self._budget(network)
        if field is not None:
            plan = plan_exact(
                work,
                field,
                budget=budget,
                batch=self.sw_batch_size,
                tuned=tuned,
                spatial_dim=self.spatial_dim,
                most=self._most(scan.shape),
            )
            return plan, field
        sweep = self._overlap_sweep(scan.shape, network)
        return plan_overlap(work, sweep, budget=budget, tuned=tuned), sweep

    def _overlap_sweep(self, shape: tuple[int, ...], network: Callable[..., Any]) -> OverlapSweep:
        grid = WindowGrid(shape, self._roi(shape), ensure_tuple_rep(self.overlap, 3))
        return OverlapSweep(
            grid,
            mode=self.mode,
            sigma_scale=self.sigma_scale,
            sw_batch_size=self.sw_batch_size,
            cval=self.cval,
            recompute=self.recompute,
            device=network_device(network),
        )

    def _settings(self, how: ReceptiveField | OverlapSweep) -> dict[str, Any]:
        """What of this inferer the bytes of a result depend on, besides the grid."""
        names = ["mode", "overlap", "sigma_scale", "cval", "recompute", "skip_key", "spatial_dim", "channels_last"]
        names.append("compile_backend")
        tiles = {"halo": how.halo, "stride": how.stride} if isinstance(how, ReceptiveField) else {}
        return {"name": type(self).__name__, **{name: getattr(self, name) for name in names}, **tiles}

    # the network

    def _forward(self, network: Callable[..., Any], dims: int, *args: Any, **kwargs: Any) -> Forward:
        options: dict[str, Any] = {"channels_last": self.channels_last, "compile_backend": self.compile_backend}
        return Forward(self._sliced(network, dims), *args, **options, **kwargs)

    def _sliced(self, network: Callable[..., Any], dims: int) -> Callable[..., Any]:
        return network if self.spatial_dim is None or dims < 3 else SliceWise(network, self.spatial_dim)

    def _network_dims(self, dims: int) -> int:
        return dims if self.spatial_dim is None or dims < 3 else 2

    def _field(self, network: Callable[..., Any], channels: int, dims: int) -> ReceptiveField:
        """Halo and stride over the axes of the input, probed once for each network."""
        inner = self._network_dims(dims)
        known = _FIELDS.setdefault(network, {}) if isinstance(network, nn.Module) else {}
        if isinstance(network, nn.Module) and network.training:
            raise InputError(type(network).__name__, "is in training mode; call its eval() before inference.")
        # by its structure, too, which a network's owner may change
        key = channels, inner, str(self.halo), str(self.stride), str(network)
        if key not in known:
            if self.halo is not None and self.stride is not None:
                field = ReceptiveField(ensure_tuple_rep(self.halo, inner), ensure_tuple_rep(self.stride, inner))
                check_tiles(network, channels, field)  # type: ignore[arg-type]
            else:
                field = probe_receptive_field(network, channels, inner)  # type: ignore[arg-type]
            known[key] = field
            logger.info("halo %s, stride %s (voxels).", field.halo, field.stride)
        field = known[key]
        if inner == dims or self.spatial_dim is None:
            return field
        halo, stride = list(field.halo), list(field.stride)
        halo.insert(self.spatial_dim, 0)
        stride.insert(self.spatial_dim, 1)
        return ReceptiveField(tuple(halo), tuple(stride), field.error)

    def _activations(
        self, network: Callable[..., Any], channels: int, field: ReceptiveField | None
    ) -> ActivationMemory:
        if field is None:
            size = [32 if n == 3 else 128 for n in [self._network_dims(3)]] * self._network_dims(3)
        else:
            steps = [s for axis, s in enumerate(field.stride) if len(field.stride) < 3 or axis != self.spatial_dim]
            least = 32 if len(steps) == 3 else 128
            size = [-(-least // step) * step for step in steps]
        image = torch.zeros(1, channels, *size, device=network_device(network))
        with torch.no_grad():
            return measure_activations(network, image)

    def _budget(self, network: Callable[..., Any]) -> int:
        if self.memory_budget is not None:
            return int(self.memory_budget)
        device = network_device(network)
        if device.type == "cuda":
            return int(min(0.4 * torch.cuda.get_device_properties(device).total_memory, 8e9))
        return 2_000_000_000

    def _roi(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The window over all axes of the input."""
        inner = self._network_dims(len(shape))
        roi = ensure_tuple_rep(self.roi_size if self.roi_size is not None else _DEFAULT_ROI[inner], inner)
        roi = tuple(int(size) if size else -1 for size in roi)
        if inner < len(shape) and self.spatial_dim is not None:
            roi = (*roi[: self.spatial_dim], 1, *roi[self.spatial_dim :])
        if self.roi_size is None:
            roi = tuple(min(size, full) for size, full in zip(roi, shape, strict=True))
        return roi

    def _most(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        if self.roi_size is None:
            return shape
        return tuple(min(roi, n) if roi > 0 else n for roi, n in zip(self._roi(shape), shape, strict=True))

    def _slices_at_once(self, shape: tuple[int, ...]) -> dict[int, int]:
        if self.spatial_dim is None or len(shape) < 3:
            return {}
        return {self.spatial_dim: min(self.sw_batch_size, shape[self.spatial_dim])}
