"""A folder of images, decoded as training goes."""

import numpy as np
import pytest

from skrobust import AdversarialDeepMetric, ThreatModel
from skrobust.attacks import EmbeddingShift
from skrobust.datasets import load_image_folder
from skrobust.deep import MDProp

Image = pytest.importorskip("PIL.Image")


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    for c in range(8):
        (tmp_path / f"class{c}").mkdir()
        base = rng.integers(0, 256, (20, 20, 3))
        for i in range(6):
            pixels = np.clip(base + rng.normal(0, 20, base.shape), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / f"class{c}" / f"{i}.png")
    return tmp_path


def test_lazy_images_are_as_good_as_arrays(folder):
    train = load_image_folder(folder, image_size=16, subset="train")
    test = load_image_folder(folder, image_size=16, subset="test")
    budget = ThreatModel(np.inf, 8.0, bounds=(0.0, 255.0))
    metric = AdversarialDeepMetric(
        training=MDProp(budget), max_iter=3, batch_size=16, device="cpu", random_state=0
    )
    metric.fit(train.data, train.target)
    lazy = metric.transform(test.data)
    whole = metric.fit(np.asarray(train.data), train.target).transform(np.asarray(test.data))
    np.testing.assert_array_equal(lazy, whole)
    found = EmbeddingShift(threat_model=budget, max_iter=3).run(metric, np.asarray(test.data))
    assert found.X_adv.shape == test.data.shape
    with pytest.raises(ValueError, match=r"rows of shape \(8, 8, 3\)"):
        metric.transform(load_image_folder(folder, image_size=8).data)
