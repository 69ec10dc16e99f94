"""How a lumbar phantom is scanned: vendor, tube voltage, kernel, dose, contrast medium, slices; drawn from a seed."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, NamedTuple, get_args

import numpy as np

from bonemonai.errors import InputError

Vendor = Literal["Philips", "SIEMENS", "GE MEDICAL SYSTEMS"]
Kernel = Literal["soft", "standard", "bone"]
VENDORS: tuple[Vendor, ...] = get_args(Vendor)
THICKNESSES_MM = (1.0, 2.0, 3.0, 5.0)
REFERENCE_NOISE_HU = 14.0  # of 3 mm, standard kernel, 120 kVp, dose 1, a trunk of 280 mm

_KVP = {80: 0.18, 100: 0.30, 120: 0.32, 140: 0.20}
_KERNELS: dict[Kernel, float] = {"soft": 0.3, "standard": 0.55, "bone": 0.15}
_KERNEL_NAMES: dict[Vendor, dict[Kernel, str]] = {
    "Philips": {"soft": "A", "standard": "B", "bone": "D"},
    "SIEMENS": {"soft": "B20f", "standard": "Br40d", "bone": "B60f"},
    "GE MEDICAL SYSTEMS": {"soft": "SOFT", "standard": "STANDARD", "bone": "BONE"},
}
# how bone reads on vendors' scanners relative to each other
_DENSITY_SCALE: dict[Vendor, float] = {"Philips": 1.0, "SIEMENS": 0.94, "GE MEDICAL SYSTEMS": 1.06}
_KEY = 24


class Beam(NamedTuple):
    """What a tube voltage makes of a unit of each material.

    Attributes:
        fat: attenuation, water being 1.
        mineral: HU per mg/cm3 of hydroxyapatite.
        iodine: HU per mg/ml.
        noise: relative to 120 kVp at equal dose.
    """

    fat: float
    mineral: float
    iodine: float
    noise: float


BEAMS = MappingProxyType(
    {
        80: Beam(0.872, 1.98, 42.0, 1.25),
        100: Beam(0.887, 1.63, 32.0, 1.08),
        120: Beam(0.899, 1.40, 25.5, 1.0),
        140: Beam(0.906, 1.26, 21.0, 0.96),
    }
)


class KernelShape(NamedTuple):
    """What a reconstruction kernel does.

    Attributes:
        sigma_mm: of the Gaussian whose Fourier transform is its MTF.
        enhancement: of edges, 0 for none.
        noise: relative to the standard kernel.
    """

    sigma_mm: float
    enhancement: float
    noise: float


KERNELS = MappingProxyType(
    {
        "soft": KernelShape(0.85, 0.0, 0.75),
        "standard": KernelShape(0.60, 0.0, 1.0),
        "bone": KernelShape(0.42, 0.5, 2.4),
    }
)


@dataclass(frozen=True)
class CTAcquisition:
    """One way of scanning and reconstructing.

    Attributes:
        vendor: whose habits headers and values follow.
        kvp: tube voltage, 80, 100, 120 or 140 kV.
        kernel: "soft", "standard" or "bone".
        dose: relative to a usual one, > 0.
        contrast: 0 for a native scan, about 1 for the portal venous phase.
        thickness_mm: of a slice.
        interval_mm: from slice to slice.
        density_scale: error of the scale above water.
        offset_hu: error of the whole scale.
        cupping_hu: what beam hardening takes away in the trunk's middle.
        extended: whether stored values allow for HU above 3071, as some Siemens scanners' do.
    """

    vendor: Vendor = "Philips"
    kvp: int = 120
    kernel: Kernel = "standard"
    dose: float = 1.0
    contrast: float = 0.0
    thickness_mm: float = 3.0
    interval_mm: float = 3.0
    density_scale: float = 1.0
    offset_hu: float = 0.0
    cupping_hu: float = 0.0
    extended: bool = False

    def __post_init__(self) -> None:
        rules = {
            "vendor": (self.vendor in VENDORS, f"must be one of {', '.join(VENDORS)}"),
            "kvp": (self.kvp in BEAMS, f"must be one of {', '.join(map(str, BEAMS))} kV"),
            "kernel": (self.kernel in KERNELS, f"must be one of {', '.join(KERNELS)}"),
            "dose": (0 < self.dose < np.inf, "must be > 0, 1 being usual"),
            "contrast": (0 <= self.contrast <= 3, "must be within 0 (native) and 3, 1 being usual"),
            "thickness_mm": (0.2 <= self.thickness_mm <= 20, "must be within 0.2 and 20 mm"),
            "interval_mm": (0.2 <= self.interval_mm <= 40, "must be within 0.2 and 40 mm"),
        }
        for name, (holds, rule) in rules.items():
            if not holds:
                raise InputError(name, f"{rule}, got {getattr(self, name)!r}.")

    @property
    def kernel_name(self) -> str:
        """The vendor's name of the kernel."""
        return _KERNEL_NAMES[self.vendor][self.kernel]

    @property
    def outside_hu(self) -> int:
        """What stands outside the reconstructed circle: stored -2000 (GE), or the lowest value there is."""
        if self.vendor == "GE MEDICAL SYSTEMS":
            return -3024
        return -8192 if self.extended else -1024


def draw_acquisition(seed: int, *, vendor: Vendor | None = None, interval_mm: float = 3.0) -> CTAcquisition:
    """Draw a scan as clinical routine would have it; nothing depends on the subject's class.

    Voltages of 80 to 140 kV, vendors' scales, contrast medium and beam hardening shift Hounsfield units of equal
    mineral by up to a third, so that thresholds on them confuse neighbouring classes.

    Args:
        seed: at least 0.
        vendor: "Philips", "SIEMENS" or "GE MEDICAL SYSTEMS"; drawn by default.
        interval_mm: from slice to slice; slices are as thick, or overlap.

    Raises:
        InputError: if the vendor or the interval is out of its range.

    Example:
        >>> draw_acquisition(3, vendor="SIEMENS").vendor
        'SIEMENS'
    """
    rng = np.random.default_rng([seed, _KEY])
    drawn = VENDORS[rng.integers(len(VENDORS))]
    vendor = drawn if vendor is None else vendor
    fitting = [t for t in THICKNESSES_MM if t >= interval_mm] or [THICKNESSES_MM[-1]]
    return CTAcquisition(
        vendor=vendor,
        kvp=int(rng.choice(list(_KVP), p=list(_KVP.values()))),
        kernel=list(_KERNELS)[rng.choice(3, p=list(_KERNELS.values()))],
        dose=float(np.exp(rng.normal(0, 0.35))),
        contrast=float(rng.uniform(0.7, 1.4) if rng.uniform() < 0.45 else 0.0),
        thickness_mm=fitting[min(int(rng.uniform() < 0.35), len(fitting) - 1)],
        interval_mm=interval_mm,
        density_scale=float(_DENSITY_SCALE.get(vendor, 1.0) * rng.normal(1, 0.06)),
        offset_hu=float(rng.normal(0, 5)),
        cupping_hu=float(rng.uniform(2, 14)),
        extended=bool(vendor == "SIEMENS" and rng.uniform() < 0.4),
    )
