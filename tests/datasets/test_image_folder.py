"""Layouts of folders, and images that are read when indexed."""

import pickle
import subprocess
import sys

import numpy as np
import pytest
from scipy.io import savemat
from sklearn.model_selection import train_test_split

from skrobust.datasets import LazyImages, _lazy_images, load_image_folder

Image = pytest.importorskip("PIL.Image")


def save(path, color, size=(8, 6)):
    """Write an image of size (width, height) of one gray."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (color, color, color)).save(path)
    return path


@pytest.fixture
def files(tmp_path):
    return [save(tmp_path / f"{i}.png", 10 * i) for i in range(5)]


class TestLazyImages:
    def test_looks_like_an_array(self, files):
        images = LazyImages(files)
        assert (len(images), images.shape, images.ndim) == (5, (5, 6, 8, 3), 4)
        assert images.dtype == np.uint8
        assert repr(images) == "LazyImages(shape=(5, 6, 8, 3))"
        whole = np.asarray(images)
        assert (whole.shape, whole.dtype) == ((5, 6, 8, 3), np.uint8)
        np.testing.assert_array_equal(whole[:, 0, 0, 0], [0, 10, 20, 30, 40])
        assert np.asarray(images, dtype=np.float32).dtype == np.float32
        assert len(list(images)) == 5

    @pytest.mark.parametrize(
        "key",
        [
            2,
            -1,
            np.int64(1),
            slice(None),
            slice(4, 0, -2),
            [3, 3, -5],
            np.array([1, 0]),
            np.array([], dtype=int),
            [],
            np.array([True, False, True, False, True]),
            ([1, 2], Ellipsis),
        ],
        ids=str,
    )
    def test_indexing(self, files, key):
        images = LazyImages(files)
        expected = np.asarray(images)[np.array(key, int) if isinstance(key, list) else key]
        found = images[key]
        assert (found.shape, found.dtype) == (expected.shape, np.uint8)
        np.testing.assert_array_equal(found, expected)
        if not isinstance(key, tuple) and np.ndim(expected) == 4:
            taken = images.take(key)
            assert isinstance(taken, LazyImages)
            np.testing.assert_array_equal(np.asarray(taken), expected)

    @pytest.mark.parametrize(
        "key", [5, [0, 7], 1.0, "a", (0, 1), [[0, 1]], np.array([True]), None], ids=str
    )
    def test_bad_indices(self, files, key):
        with pytest.raises(IndexError):
            LazyImages(files)[key]

    def test_nothing_is_read_before(self, tmp_path):
        images = LazyImages([tmp_path / "none.png"] * 3, image_size=4)
        assert images.take([0, 1]).shape == (2, 4, 4, 3)
        with pytest.raises(ValueError, match=r"none\.png cannot be read"):
            images[0]

    def test_pickle_and_scikit_learn(self, files):
        images = pickle.loads(pickle.dumps(LazyImages(files, image_size=4)))
        train, test = train_test_split(images, test_size=2, random_state=0)
        assert (train.shape, test.shape) == ((3, 4, 4, 3), (2, 4, 4, 3))

    def test_copy(self, files):
        with pytest.raises(ValueError, match="copy=False"):
            LazyImages(files).__array__(copy=False)

    def test_unreadable(self, tmp_path):
        (tmp_path / "text.jpg").write_text("no image")
        noise = np.random.default_rng(0).integers(0, 256, (30, 30, 3), dtype=np.uint8)
        Image.fromarray(noise).save(tmp_path / "whole.png")
        (tmp_path / "cut.png").write_bytes((tmp_path / "whole.png").read_bytes()[:1500])
        for name in ("text.jpg", "cut.png"):
            with pytest.raises(ValueError, match=f"{name} cannot be read as an image"):
                LazyImages([tmp_path / name], image_size=4)[0]

    def test_other_sizes(self, tmp_path, files):
        images = LazyImages([*files, save(tmp_path / "large.png", 0, (9, 6))])
        with pytest.raises(ValueError, match=r"large\.png is 6 x 9 pixels; expected 6 x 8"):
            images[-1]

    def test_modes(self, tmp_path):
        gray = Image.new("L", (4, 4), 7)
        palette = gray.convert("P")
        palette.info["transparency"] = bytes(range(256))
        palette.save(tmp_path / "palette.png", transparency=bytes(range(256)))
        gray.save(tmp_path / "gray.png")
        gray.convert("RGBA").save(tmp_path / "rgba.png")
        gray.convert("CMYK").save(tmp_path / "cmyk.jpg")
        names = ["palette.png", "gray.png", "rgba.png", "cmyk.jpg"]
        found = np.asarray(LazyImages([tmp_path / name for name in names], image_size=4))
        assert (np.abs(found.astype(int) - 7) <= 1).all()

    @pytest.mark.parametrize(
        ("mode", "suffix"),
        [
            *(("1", suffix) for suffix in ("png", "tif", "bmp", "gif")),
            *(("L", suffix) for suffix in ("png", "tif", "jpg", "bmp", "gif", "webp", "pgm")),
            *(("LA", suffix) for suffix in ("png", "tif")),
            *(("P", suffix) for suffix in ("png", "tif", "bmp", "gif")),
            *(("RGB", suffix) for suffix in ("png", "tif", "jpg", "webp", "ppm")),
            *(("RGBA", suffix) for suffix in ("png", "tif", "webp")),
            *(("CMYK", suffix) for suffix in ("tif", "jpg")),
            ("YCbCr", "tif"),
            *(("I;16", suffix) for suffix in ("png", "tif", "pgm")),
            ("I;16B", "tif"),
        ],
        ids=str,
    )
    def test_grey_levels_in_every_mode(self, tmp_path, mode, suffix):
        """Black to white stays black to white, with the levels of 8 bits between them."""
        levels = np.array([0, 255] if mode == "1" else np.arange(256), dtype=np.uint8)
        pixels = np.repeat(np.repeat(levels[None], 4, axis=0), 4, axis=1)
        if mode.startswith("I;16"):
            wide = (pixels.astype(np.uint16) * 257).astype(">u2" if mode[-1] == "B" else "<u2")
            image = Image.fromarray(wide)
        else:
            image = Image.fromarray(pixels).convert(mode)
        path = tmp_path / f"levels.{suffix}"
        image.save(path, **({"lossless": True} if suffix == "webp" else {}))
        if mode == "YCbCr":
            try:
                with Image.open(path) as opened:
                    opened.load()
            except OSError:
                pytest.skip("Pillow before 12 does not read what it writes")
        found = LazyImages([path])[0]
        apart = np.abs(found.astype(int) - pixels[..., None]).max()
        assert apart <= (4 if suffix == "jpg" else 1)

    @pytest.mark.parametrize("mode", ["I", "F"])
    def test_modes_of_unknown_range_are_refused(self, tmp_path, mode):
        Image.new(mode, (4, 4)).save(tmp_path / "a.tif")
        with pytest.raises(ValueError, match=r"a\.tif cannot be read as an image: .*range"):
            LazyImages([tmp_path / "a.tif"])

    def test_twelve_bits(self, tmp_path):
        image = Image.fromarray(np.array([[0, 4095]], dtype=np.uint16))
        image.save(tmp_path / "a.tif", tiffinfo={258: 16})
        with Image.open(tmp_path / "a.tif") as opened:
            opened.tag_v2[258] = (12,)
            found = np.asarray(_lazy_images._rgb(opened))
        np.testing.assert_array_equal(found[0, :, 0], [0, 255])

    @pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp"])
    @pytest.mark.parametrize("orientation", range(1, 9))
    @pytest.mark.parametrize("mode", ["RGB", "L", "I;16"])
    def test_pictures_are_upright(self, tmp_path, suffix, orientation, mode):
        if mode == "I;16" and suffix in ("jpg", "webp"):
            pytest.skip("has no 16 bits")
        upright = np.zeros((16, 32), dtype=np.uint8)
        upright[:8, :16] = 255  # only one corner is white
        # what the camera stores, so that the flag turns it back
        stored = {
            1: upright,
            2: upright[:, ::-1],
            3: upright[::-1, ::-1],
            4: upright[::-1],
            5: upright.T,
            6: np.rot90(upright),
            7: upright[::-1, ::-1].T,
            8: np.rot90(upright, -1),
        }[orientation]
        exif = Image.Exif()
        exif[274] = orientation
        wide = np.ascontiguousarray(stored)
        if mode != "I;16":
            image = Image.fromarray(wide).convert(mode)
        else:
            image = Image.fromarray(wide.astype(np.uint16) * 257)
        path = tmp_path / f"a.{suffix}"
        image.save(path, exif=exif)
        images = LazyImages([path])
        assert images.shape == (1, 16, 32, 3)
        apart = np.abs(images[0].astype(int) - upright[..., None])
        assert apart.mean() < 4

    def test_scale_and_cut(self, tmp_path):
        pixels = np.zeros((4, 8, 3), np.uint8)
        pixels[:, 2:6] = 200
        Image.fromarray(pixels).save(tmp_path / "a.png")
        name = [tmp_path / "a.png"]
        assert (LazyImages(name, image_size=4)[0] == 200).all()  # the middle, not scaled
        stretched = LazyImages(name, image_size=(4, 4), resize="stretch")[0]
        assert stretched[0, 0, 0] < 100 < stretched[0, 1, 0]
        larger = LazyImages(name, image_size=(4, 6), resize=4)[0]
        np.testing.assert_array_equal(larger, pixels[:, 1:7])
        cover = LazyImages(name, image_size=(8, 8))[0]
        assert cover.shape == (8, 8, 3)
        assert (cover[:, 2:6] == 200).all()
        padded = LazyImages(name, image_size=8, resize=4)[0]
        np.testing.assert_array_equal(padded[2:6], pixels)
        assert not padded[:2].any()

    @pytest.mark.parametrize(
        ("given", "message"),
        [
            ({"image_size": 0}, "image_size must be a positive integer or a pair"),
            ({"image_size": (2, 3, 4)}, "image_size must be"),
            ({"image_size": "224"}, "image_size must be"),
            ({"image_size": 4, "resize": 0}, "resize must be >= 1; got 0"),
            ({"image_size": 4, "resize": "crop"}, "resize must be one of .'stretch'.; got 'crop'"),
            ({"resize": 4}, "image_size must be given with resize=4"),
        ],
        ids=str,
    )
    def test_parameters(self, files, given, message):
        with pytest.raises(ValueError, match=message):
            LazyImages(files, **given)

    def test_without_pillow(self, files, monkeypatch):
        def missing(name):
            raise ImportError(name)

        monkeypatch.setattr(_lazy_images, "import_module", missing)
        with pytest.raises(ImportError, match="pip install pillow"):
            LazyImages(files)


def folders(root):
    for i, name in enumerate(["cat", "ant", "bee", "dog"]):
        save(root / name / "1.png", i)
        save(root / name / "0.JPG", i)
        (root / name / "notes.txt").write_text("none")
    (root / ".hidden").mkdir()
    return root


def cub200(root):
    rows = [(1, 100, "100.B/1.png"), (2, 1, "001.A/1.png"), (3, 101, "101.C/x y.png")]
    for _, label, name in rows:
        save(root / "images" / name, label)
    (root / "images.txt").write_text("".join(f"{n} {name}\n" for n, _, name in rows))
    (root / "image_class_labels.txt").write_text("".join(f"{n} {c}\n" for n, c, _ in rows[::-1]))
    (root / "classes.txt").write_text("".join(f"{i} {i:03d}.N\n" for i in range(1, 201)))
    return root


def annotations(names, classes, field):
    rows = np.zeros(len(names), dtype=[(field, object), ("class", object)])
    rows[field], rows["class"] = names, [float(c) for c in classes]
    return rows


NAMES = np.array([f"car {i}" for i in range(1, 197)], dtype=object)


def cars196(root):
    names = [f"car_ims/{i}.png" for i in range(3)]
    for name in names:
        save(root / name, 1)
    rows = annotations(names, [98, 99, 196], "relative_im_path")
    savemat(root / "cars_annos.mat", {"annotations": rows, "class_names": NAMES})
    return root


def cars196_devkit(root):
    (root / "devkit").mkdir()
    savemat(root / "devkit" / "cars_meta.mat", {"class_names": NAMES})
    train = annotations(["a.png", "b.png"], [98, 99], "fname")
    savemat(root / "devkit" / "cars_train_annos.mat", {"annotations": train})
    test = annotations(["c.png"], [196], "fname")
    savemat(root / "cars_test_annos_withlabels.mat", {"annotations": test})
    for name in ("cars_train/a", "cars_train/b", "cars_test/c"):
        save(root / f"{name}.png", 1)
    return root


def sop(root):
    header = "image_id class_id super_class_id path\n"
    (root / "Ebay_train.txt").write_text(header + "1 1 1 bike/1.png\n2 4 1 bike/2.png\n")
    (root / "Ebay_test.txt").write_text(header + "3 7 2 sofa/3.png\n4 7 2 sofa/4.png\n")
    for name in ("bike/1", "bike/2", "sofa/3", "sofa/4"):
        save(root / f"{name}.png", 1)
    return root


class TestLayouts:
    @pytest.mark.parametrize(
        ("make", "layout", "target", "is_train", "names"),
        [
            (folders, "folders", [0, 0, 1, 1, 2, 2, 3, 3], [1, 1, 1, 1, 0, 0, 0, 0], "ant bee cat"),
            (cub200, "cub200", [99, 0, 100], [1, 1, 0], "001.N 002.N"),
            (cars196, "cars196", [97, 98, 195], [1, 0, 0], "car+1 car+2"),
            (cars196_devkit, "cars196", [97, 98, 195], [1, 0, 0], "car+1 car+2"),
            (sop, "sop", [0, 1, 2, 2], [1, 1, 0, 0], "1 4 7"),
        ],
        ids=["folders", "cub200", "cars196", "devkit", "sop"],
    )
    def test_layouts(self, tmp_path, make, layout, target, is_train, names):
        root, is_train = make(tmp_path), np.array(is_train, bool)
        bunch = load_image_folder(root)
        np.testing.assert_array_equal(bunch.target, target)
        np.testing.assert_array_equal(bunch.is_train, is_train)
        names = [name.replace("+", " ") for name in names.split()]
        assert bunch.target_names[: len(names)] == names
        assert np.asarray(bunch.data).shape == (len(target), 6, 8, 3)
        for subset, rows in (("train", is_train), ("test", ~is_train)):
            data, y = load_image_folder(
                root, layout=layout, subset=subset, image_size=5, return_X_y=True
            )
            assert data[:].shape == (rows.sum(), 5, 5, 3)
            np.testing.assert_array_equal(y, bunch.target[rows])
            assert data.filenames == bunch.filenames[rows].tolist()

    @pytest.mark.parametrize(
        ("given", "test"),
        [(0.25, ["dog"]), (0, []), (1, ["ant", "bee", "cat", "dog"]), (["bee"], ["bee"])],
        ids=str,
    )
    def test_classes_to_test_on(self, tmp_path, given, test):
        bunch = load_image_folder(folders(tmp_path), test_classes=given)
        found = {bunch.target_names[c] for c in bunch.target[~bunch.is_train]}
        assert sorted(found) == test

    @pytest.mark.parametrize(
        ("given", "message"),
        [
            ({"layout": "imagenet"}, "layout must be one of .'auto', 'folders'.*got 'imagenet'"),
            ({"subset": "val"}, "subset must be one of .'train', 'test', 'all'.; got 'val'"),
            ({"test_classes": 1.5}, "test_classes must be from 0 to 1, or names; got 1.5"),
            ({"test_classes": "cat"}, "test_classes must be .* a list of names; got 'cat'"),
            ({"test_classes": True}, "test_classes must be"),
            ({"test_classes": ["cat", "eel"]}, r"test_classes names \['eel'\].*'dog'"),
            ({"test_classes": 1.0, "subset": "train"}, "subset='train' of .* holds no images"),
            ({"layout": "cub200"}, "images.txt is missing"),
            ({"layout": "sop"}, "Ebay_train.txt is missing"),
            ({"layout": "cars196"}, "cars_meta.mat cannot be read"),
            ({"layout": "sop", "test_classes": 0.5}, "test_classes must be None with layout='sop'"),
        ],
        ids=str,
    )
    def test_bad_parameters(self, tmp_path, given, message):
        with pytest.raises(ValueError, match=message):
            load_image_folder(folders(tmp_path), **given)

    def test_missing_and_empty(self, tmp_path):
        with pytest.raises(ValueError, match=r"path must be a folder; got .*nowhere"):
            load_image_folder(tmp_path / "nowhere")
        with pytest.raises(ValueError, match="path must hold images"):
            load_image_folder(tmp_path)
        (tmp_path / "empty").mkdir()
        with pytest.raises(ValueError, match="empty holds no images"):
            load_image_folder(tmp_path)

    @pytest.mark.parametrize("parts", [["train", "test"], ["train", "test", "val"], ["only"]])
    def test_parts_are_suggested(self, tmp_path, parts):
        for part in parts:
            folders(tmp_path / part)
        with pytest.raises(ValueError, match="one level down: give path=") as error:
            load_image_folder(tmp_path)
        for part in parts:
            assert repr(str(tmp_path / part)) in str(error.value)
            assert len(load_image_folder(tmp_path / part).data) == 8

    def test_lists_that_do_not_fit(self, tmp_path):
        root = cub200(tmp_path)
        (root / "image_class_labels.txt").write_text("1 100\n2 1\n")
        with pytest.raises(ValueError, match="lists other images"):
            load_image_folder(root)
        (root / "image_class_labels.txt").write_text("1 100\n2 1\n3 999\n")
        with pytest.raises(ValueError, match="classes from 1 to 200; got 1 to 999"):
            load_image_folder(root)
        (root / "image_class_labels.txt").write_text("1 100\n2\n3 9\n")
        with pytest.raises(ValueError, match="must have 2 columns; got the line '2'"):
            load_image_folder(root)

    @pytest.mark.parametrize("name", ["../secret.png", "/etc/secret.png", "C:/secret.png"])
    def test_paths_that_lead_elsewhere(self, tmp_path, name):
        root = sop(tmp_path)
        (root / "Ebay_train.txt").write_text(f"a b c d\n1 1 1 {name}\n")
        with pytest.raises(ValueError, match="outside its folder"):
            load_image_folder(root)

    def test_a_class_in_both_parts(self, tmp_path):
        root = sop(tmp_path)
        (root / "Ebay_train.txt").write_text("a b c d\n1 7 1 bike/1.png\n")
        with pytest.raises(ValueError, match=r"class 7 in Ebay_train\.txt and in Ebay_test\.txt"):
            load_image_folder(root)

    def test_devkit_without_labels(self, tmp_path):
        root = cars196_devkit(tmp_path)
        (root / "cars_test_annos_withlabels.mat").unlink()
        with pytest.raises(ValueError, match=r"must hold cars_test_annos_withlabels\.mat"):
            load_image_folder(root)


def test_import_is_light():
    code = "import sys, skrobust.datasets; print({'torch', 'PIL', 'matplotlib'} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"
