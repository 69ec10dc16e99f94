"""Time, peak memory and values of bone morphometry: this package, ITK's and bone-microarchitecture's, on one volume.

``python -m tests.benchmarks.bone_morphometry TIFF_FOLDER --edge 100``: grey values above 63 are bone. Each case is a
process of its own; memory is what it adds to the process.

Values differ by definition: bone-microarchitecture takes half a voxel off each radius and leaves balls out that reach a
face, ITK counts lattice lines along three axes and takes the faces of the volume for surface of bone.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import click

COMMON = """
import sys, time
import numpy as np
from bonemonai.data import open_volume
from tests.array_volume import ArrayVolume
edge = int(sys.argv[2])
bone = (open_volume(sys.argv[1]).read(0, edge) > 63)[:, :edge, :edge]
UM = 19.5
volume = ArrayVolume(bone.astype(np.uint8), (UM,) * 3)
def peak():
    return int(next(line for line in open('/proc/self/status') if 'VmHWM' in line).split()[1]) / 1024
"""
CASES = {
    "bonemonai: Tb.Th, Tb.Sp, Tb.N": """
from bonemonai.analysis import measure_local_thickness
from bonemonai.analysis.between_bone import BetweenBone
from bonemonai.analysis.mid_axes import MidAxes
def work():
    phases = volume, BetweenBone(volume), BetweenBone(MidAxes(volume))
    th, sp, n = (measure_local_thickness(phase).mean_mm for phase in phases)
    return f"Tb.Th {th:.4f} mm, Tb.Sp {sp:.4f} mm, Tb.N {1 / n:.3f} 1/mm"
""",
    "bone-microarchitecture: Tb.Th, Tb.Sp, Tb.N": """
from bone_microarchitecture import thickness
def work():
    mm = (UM / 1000,) * 3
    th, sp = (thickness.hildebrand_thickness_map(phase, mm, backend='cpu') for phase in (bone, ~bone))
    n = thickness.trabecular_number_map(bone, np.ones_like(bone), mm, backend='cpu')
    th, sp, n = (float(m[m > 0].mean()) for m in (th, sp, 1 / np.where(n > 0, n, np.inf)))
    return f"Tb.Th {th:.4f} mm, Tb.Sp {sp:.4f} mm, Tb.N {1 / n:.3f} 1/mm"
""",
    "bonemonai: plate model": """
from bonemonai.analysis import measure_bone_surface
def work():
    found = measure_bone_surface(volume)
    return f"BV/TV {bone.mean():.4f}, BS/BV {found.bs_bv_per_mm:.3f} 1/mm, Tb.Th.plate {found.thickness_plate_mm:.4f}"
""",
    "itk-bonemorphometry: plate model": """
import itk
image = itk.GetImageFromArray(bone.astype(np.float32))
image.SetSpacing([UM / 1000] * 3)
measured = itk.BoneMorphometryFeaturesFilter[type(image)].New(image, Threshold=0.5)
def work():
    measured.Update()
    return f"BV/TV {measured.GetBVTV():.4f}, BS/BV {measured.GetBSBV():.3f} 1/mm, Tb.Th.plate {measured.GetTbTh():.4f}"
""",
    "bonemonai: objects": """
from bonemonai.analysis import measure_lacuna_objects
def work():
    table = measure_lacuna_objects(ArrayVolume(bone.astype(np.uint8), (1.0,) * 3), least_volume_um3=0)
    return f"{len(table)} objects, volume {table['volume_um3'].sum():.0f}"
""",
    "scikit-image: regionprops of objects": """
from scipy import ndimage
from skimage.measure import regionprops
def work():
    regions = regionprops(ndimage.label(bone, np.ones((3, 3, 3)))[0])
    return f"{len(regions)} objects, volume {sum(region.area for region in regions):.0f}"
""",
}
RUN = """
before, start = peak(), time.perf_counter()
text = work()
print(f'{time.perf_counter() - start:.2f} s, {peak() - before:.0f} MB: {text}')
"""


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, exists=True))
@click.option("--edge", default=100, show_default=True, help="Of the cube, voxels.")
def main(folder: Path, edge: int) -> None:
    """Print a line a case."""
    for name, case in CASES.items():
        code = COMMON + case + RUN
        run = subprocess.run(
            [sys.executable, "-c", code, str(folder), str(edge)], capture_output=True, text=True, check=False
        )
        click.echo(f"{name}: {run.stdout.strip() or run.stderr.strip().splitlines()[-1]}")


if __name__ == "__main__":
    main()
