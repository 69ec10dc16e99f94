"""Bundles that are begun and handed over: made, packed, verified without running them, unpacked, compared."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "archive_extraction": ["extract_archive", "opened_bundle"],
        "bundle_pages": ["write_bundle_pages"],
        "diff": ["diff_bundles"],
        "new_bundle": ["new_bundle"],
        "pack": ["pack_bundle"],
        "signing": ["ArchiveSigner", "verify_signature"],
        "unpack": ["unpack_bundle"],
        "verify": ["verify_bundle"],
        "weights_check": ["check_weights", "describe_weights"],
    },
)
