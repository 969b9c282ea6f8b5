"""Data to learn and test metrics on: downloads, folders of images, a problem with known radii."""

from skrobust.datasets._image_folder import load_image_folder
from skrobust.datasets._lazy_images import LazyImages
from skrobust.datasets._margin_blobs import make_margin_blobs
from skrobust.datasets._omniglot import fetch_omniglot
from skrobust.datasets._tables import (
    fetch_dna,
    fetch_fashion_mnist,
    fetch_mnist,
    fetch_optdigits,
    fetch_pendigits,
    fetch_satimage,
    fetch_spambase,
    fetch_splice,
    fetch_table,
    fetch_usps,
)

__all__ = [
    "LazyImages",
    "fetch_dna",
    "fetch_fashion_mnist",
    "fetch_mnist",
    "fetch_omniglot",
    "fetch_optdigits",
    "fetch_pendigits",
    "fetch_satimage",
    "fetch_spambase",
    "fetch_splice",
    "fetch_table",
    "fetch_usps",
    "load_image_folder",
    "make_margin_blobs",
]
