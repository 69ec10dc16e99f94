"""Synthetic scans with known truth, written as real files."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "compression_study": ["write_compression_study"],
        "lumbar_acquisition": ["CTAcquisition", "draw_acquisition"],
        "lumbar_anatomy": ["LumbarAnatomy"],
        "lumbar_cohort": ["LumbarCase", "lumbar_cases"],
        "lumbar_ct": ["LumbarCT"],
        "lumbar_dicom": ["FakePatient", "write_dicom_series"],
        "lumbar_study": ["write_lumbar_study"],
        "lumbar_subject": ["LumbarSubject", "draw_subject"],
        "fbp_noise": ["fbp_noise"],
        "microct_acquisition": ["MicroCTAcquisition", "hr_acquisition", "lr_acquisition"],
        "microct_scanner": ["MicroCTScanner"],
        "murine_bone": ["MurineBone"],
        "murine_cohort": ["MurineCase", "murine_cases"],
        "murine_specimen": ["MurineSpecimen", "draw_murine_specimen"],
        "murine_study": ["write_murine_study"],
        "rescanned_bone": ["write_rescanned_study"],
        "srmct_compression": ["CompressionPhantom", "PhantomState"],
        "srmct_lacunae": ["POPULATIONS", "LacunaPopulation", "PhantomBlock", "SRMicroCTPhantom", "population_of"],
        "srmct_study": ["write_srmct_study"],
    },
)
