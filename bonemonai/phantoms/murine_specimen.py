"""A mouse's femur or vertebra by numbers: sizes, structure and mineral, drawn from a seed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, get_args

from bonemonai.errors import InputError
from bonemonai.phantoms.specimen import Draw, random_numbers

MurineSite = Literal["femur", "spine"]
SITES: tuple[MurineSite, ...] = get_args(MurineSite)

Range = tuple[float, float]
MURINE_RANGES: Mapping[MurineSite, Mapping[str, Range]] = MappingProxyType(
    {
        "femur": MappingProxyType({"ct_th_um": (150.0, 230.0), "tb_sp_um": (180.0, 280.0), "plateness": (0.5, 0.8)}),
        "spine": MappingProxyType({"ct_th_um": (100.0, 130.0), "tb_sp_um": (170.0, 260.0), "plateness": (0.6, 0.85)}),
    }
)
COMMON_RANGES: Mapping[str, Range] = MappingProxyType(
    {
        "tb_th_um": (40.0, 52.0),
        "size": (0.92, 1.08),
        "cortical_mg_ha_cm3": (1000.0, 1100.0),
        "trabecular_mg_ha_cm3": (900.0, 1000.0),
        "marrow_mg_ha_cm3": (20.0, 80.0),
        "medium_mg_ha_cm3": (0.0, 20.0),
    }
)
AIR_MG_HA_CM3 = -191.56


@dataclass(frozen=True)
class MurineSpecimen:
    """What is drawn once a bone; the rest follows from it and the seed.

    Attributes:
        site: "femur", its distal metaphysis, or "spine", a lumbar vertebra.
        seed: of its random numbers.
        tb_th_um: drawn thickness of trabeculae; spheres fitted to what is built are up to 1.3 times as large, since
            rods are wider than plates.
        tb_sp_um: drawn space between them, where they are densest; that of spheres is up to a quarter larger.
        plateness: 0 for rods, 1 for plates.
        ct_th_um: thickness of the shell; the femur's in the diaphysis, towards the growth plate it is half of that
            but no less than 100 um.
        size: of the outline, 1 for the average.
        cortical_mg_ha_cm3: tissue mineral density of the shell.
        trabecular_mg_ha_cm3: of trabeculae, which are younger bone.
        marrow_mg_ha_cm3: within the bone.
        medium_mg_ha_cm3: round it, in the holder; beyond the holder is air.
    """

    site: MurineSite
    seed: int
    tb_th_um: float
    tb_sp_um: float
    plateness: float
    ct_th_um: float
    size: float
    cortical_mg_ha_cm3: float
    trabecular_mg_ha_cm3: float
    marrow_mg_ha_cm3: float
    medium_mg_ha_cm3: float


def draw_murine_specimen(site: MurineSite, seed: int) -> MurineSpecimen:
    """Draw a bone.

    Args:
        site: "femur" or "spine".
        seed: at least 0; the same seed gives the same bone.

    Raises:
        InputError: if an argument is out of its range.

    Source: ranges are ours, of the size that Glatt et al., JBMR, 2007, and Bouxsein et al., JBMR, 2010, show for
        adult mice: Tb.Th 40 to 60 um, Tb.Sp 150 to 300 um, BV/TV 5 to 30 %, Ct.Th 0.1 to 0.25 mm, tissue mineral
        900 to 1100 mg HA/cm3. They are no measurements of 16-week-old Diversity Outbred mice, which vary more than
        inbred ones.

    Example:
        >>> draw_murine_specimen("femur", 3) == draw_murine_specimen("femur", 3)
        True
    """
    if site not in SITES:
        raise InputError("site", f"must be {' or '.join(SITES)}, got {site!r}.")
    if seed < 0:
        raise InputError("seed", f"must be >= 0, got {seed!r}.")
    rng = random_numbers(seed, Draw.ANATOMY, SITES.index(site))
    drawn = {name: float(rng.uniform(*limits)) for name, limits in {**COMMON_RANGES, **MURINE_RANGES[site]}.items()}
    return MurineSpecimen(site, seed, **drawn)
