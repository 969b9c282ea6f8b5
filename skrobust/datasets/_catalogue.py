"""The data sets that can be fetched by name: where they come from, and what they are called."""

from pathlib import Path

from skrobust.datasets._download import RemoteFile
from skrobust.datasets._image_files import IdxImages, LibsvmImages
from skrobust.datasets._openml import OpenMLTable

__all__ = ["SOURCES"]

_DIGITS = tuple("0123456789")
_UCI = "\n\nSource: the UCI repository, {}; from openml.org, data set {}\nLicence: CC BY 4.0\n"
_LIBSVM = "https://www.csie.ntu.edu.tw/~cjlin/libsvmtools/datasets/multiclass/"
_NUCLEOTIDES = {"A": 1, "C": 2, "G": 3, "T": 4}
_SPLICE = (
    "Splice: splice junctions, 60 nucleotides each: A = 1, C = 2, G = 3, T = 4."
    + _UCI.format("Molecular Biology (Splice-junction Gene Sequences)", 46)
)


def _idx_files(mirrors: tuple[str, ...], *md5: str) -> dict[str, tuple[RemoteFile, ...]]:
    """Return the files of images and labels; `md5` are theirs, those of the training part first."""
    names = [
        f"{part}-{what}-ubyte.gz"
        for part in ("train", "t10k")
        for what in ("images-idx3", "labels-idx1")
    ]
    files = [
        RemoteFile(name, tuple(mirror + name for mirror in mirrors), checksum)
        for name, checksum in zip(names, md5, strict=True)
    ]
    return {"train": tuple(files[:2]), "test": tuple(files[2:])}


_MNIST = IdxImages(
    descr="""MNIST: 70000 handwritten digits of 28 x 28 pixels, 0 (paper) to 255 (ink).

Source: Y. LeCun, C. Cortes and C. J. C. Burges, http://yann.lecun.com/exdb/mnist/
Licence: CC BY-SA 3.0
""",
    files=_idx_files(
        (
            "https://ossci-datasets.s3.amazonaws.com/mnist/",
            "https://storage.googleapis.com/cvdf-datasets/mnist/",
        ),
        "f68b3c2dcbeaaa9fbdd348bbdeb94873",
        "d53e105ee54ea40749a09fcbcd1e9432",
        "9fb629c4189551a2d022fa330f9573f3",
        "ec29112dd5afa0611ce80d1b7f02629c",
    ),
    classes=_DIGITS,
    sizes={"train": 60000, "test": 10000},
)
_FASHION_MNIST = IdxImages(
    descr="""Fashion-MNIST: 70000 articles of 28 x 28 pixels, 0 (background) to 255.

Source: H. Xiao, K. Rasul and R. Vollgraf, https://github.com/zalandoresearch/fashion-mnist
Licence: MIT, copyright 2017 Zalando SE
""",
    files=_idx_files(
        (
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
            "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
        ),
        "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        "25c81989df183df01b3e8a0aad5dffbe",
        "bef4ecab320f06d8554ea6380940ec79",
        "bb300cfdad3c16e7a12a480ee83cd310",
    ),
    classes=(
        *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
        *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
    ),
    sizes={"train": 60000, "test": 10000},
    local=(Path("/usr/share/datasets/fashion-mnist"),),  # of Debian's package
)
_USPS = LibsvmImages(
    descr="""USPS: 9298 handwritten digits of 16 x 16 pixels, -1 (paper) to 1 (ink).

Source: J. J. Hull, A database for handwritten text recognition research, IEEE PAMI 16(5), 1994, as
distributed at https://www.csie.ntu.edu.tw/~cjlin/libsvmtools/datasets/multiclass.html#usps
Licence: none stated
""",
    files={
        "train": (
            RemoteFile("usps.bz2", (_LIBSVM + "usps.bz2",), "ec16c51db3855ca6c91edd34d0e9b197"),
        ),
        "test": (
            RemoteFile("usps.t.bz2", (_LIBSVM + "usps.t.bz2",), "8ea070ee2aca1ac39742fdd1ef5ed118"),
        ),
    },
    classes=_DIGITS,
    shape=(16, 16),
)

# by the name of `fetch_table` and of the folder of downloads
SOURCES: dict[str, IdxImages | LibsvmImages | OpenMLTable] = {
    "mnist": _MNIST,
    "fashion_mnist": _FASHION_MNIST,
    "usps": _USPS,
    "pendigits": OpenMLTable(
        "Pendigits: 10992 pen traces of digits, 8 points (x, y) each, 0 to 100."
        + _UCI.format("Pen-Based Recognition of Handwritten Digits", 32),
        data_id=32,
        n_features=16,
        counts=(
            (780, 779, 780, 719, 780, 720, 720, 778, 719, 719),
            (363, 364, 364, 336, 364, 335, 336, 364, 336, 336),
        ),
    ),
    "optdigits": OpenMLTable(
        "Optdigits: 5620 handwritten digits of 8 x 8 cells, 0 to 16 pixels of ink in each."
        + _UCI.format("Optical Recognition of Handwritten Digits", 28),
        data_id=28,
        n_features=64,
        image_shape=(8, 8),
        counts=(
            (376, 389, 380, 389, 387, 376, 377, 387, 380, 382),
            (178, 182, 177, 183, 181, 182, 181, 179, 174, 180),
        ),
    ),
    "dna": OpenMLTable(
        "DNA: 3186 splice junctions, 60 nucleotides of three indicators each."
        + _UCI.format(
            "Molecular Biology (Splice-junction Gene Sequences), Statlog's version", 40670
        ),
        data_id=40670,
        n_features=180,
        labels={"1": "ei", "2": "ie", "3": "n"},
        counts=((464, 485, 1051), (303, 280, 603)),
    ),
    "satimage": OpenMLTable(
        "Satimage: neighbourhoods of 3 x 3 pixels in four bands of Landsat, 0 to 255."
        + _UCI.format("Statlog (Landsat Satellite)", 182),
        data_id=182,
        n_features=36,
        labels={
            "1": "red soil",
            "2": "cotton crop",
            "3": "grey soil",
            "4": "damp grey soil",
            "5": "vegetation stubble",
            "7": "very damp grey soil",
        },
    ),
    "splice": OpenMLTable(
        _SPLICE,
        data_id=46,
        n_features=60,
        labels={"N": "N", "EI": "junction", "IE": "junction"},
        codes=_NUCLEOTIDES,
        ignored=("Instance_name",),
    ),
    "splice_3_classes": OpenMLTable(
        _SPLICE, data_id=46, n_features=60, codes=_NUCLEOTIDES, ignored=("Instance_name",)
    ),
    "spambase": OpenMLTable(
        "Spambase: 4601 mails: percentages of words and characters, lengths of runs of capitals."
        + _UCI.format("Spambase", 44),
        data_id=44,
        n_features=57,
        labels={"0": "ham", "1": "spam"},
    ),
}
