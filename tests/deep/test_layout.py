"""Which axis of an image holds its channels."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from shared_data import load_digits
from sklearn.pipeline import make_pipeline

from skrobust import AdversarialDeepMetric
from skrobust.deep._data import InputLayout


@given(
    side=st.integers(5, 40),
    other=st.integers(5, 40),
    bands=st.one_of(st.sampled_from([1, 2, 3, 4, 5, 12]), st.integers(1, 60)),
)
def test_square_images_and_those_with_few_channels_are_read_either_way(side, other, bands):
    """Whatever the number of bands: 2 and 12 as well as 3."""
    heights = (side, side) if bands >= min(side, other) else (side, other)
    if heights == (bands, bands):
        with pytest.raises(ValueError, match="give channels_last"):
            InputLayout.of((bands, bands, bands))
        return
    last, first = InputLayout.of((*heights, bands)), InputLayout.of((bands, *heights))
    assert last.input_shape == first.input_shape == (bands, *heights)
    assert (last.channels_last, first.channels_last) == (True, False)
    assert last.guessed is first.guessed is (bands not in (1, 3, 4))
    assert "(height, width, channels)" in str(last)
    assert "(channels, height, width)" in str(first)


@given(shape=st.tuples(*[st.integers(1, 20)] * 3), last=st.booleans())
def test_it_can_be_given(shape, last):
    layout = InputLayout.of(shape, None, last)
    assert layout.channels_last is last
    assert not layout.guessed
    assert layout.input_shape == ((shape[2], *shape[:2]) if last else shape)


@pytest.mark.parametrize("bands", [2, 12])
def test_networks_get_the_bands_as_channels(bands, tmp_path):
    X, y = load_digits(return_X_y=True)
    X = np.repeat(X[:40].reshape(-1, 8, 8, 1), bands, axis=3).astype(np.float32)
    params = {"max_iter": 1, "random_state": 0, "device": "cpu"}
    match = rf"\(8, 8, {bands}\) are read as \(height, width, chan"
    with pytest.warns(UserWarning, match=match) as caught:
        guessed = make_pipeline(AdversarialDeepMetric(**params)).fit(X, y[:40])[-1]
    assert caught[0].filename == __file__  # through scikit-learn
    given_ = AdversarialDeepMetric(channels_last=True, **params).fit(X, y[:40])
    assert given_.layout_.input_shape == (bands, 8, 8)
    np.testing.assert_array_equal(guessed.transform(X), given_.transform(X))
    first = next(p for p in given_.module_.parameters() if p.ndim == 4)
    assert first.shape[1] == bands
    turned = AdversarialDeepMetric(channels_last=False, **params)
    turned.fit(np.ascontiguousarray(X.transpose(0, 3, 1, 2)), y[:40])
    np.testing.assert_allclose(
        turned.transform(X.transpose(0, 3, 1, 2)), given_.transform(X), atol=1e-5
    )
    guessed.save(tmp_path / "model")
    again = AdversarialDeepMetric.load(tmp_path / "model")
    assert again.layout_.channels_last
    np.testing.assert_array_equal(again.transform(X), guessed.transform(X))


def test_rows_are_turned_as_they_are_read():
    pixels = torch.arange(2.0 * 6 * 6 * 2).reshape(2, 6, 6, 2)
    turned = InputLayout.of((6, 6, 2)).to_module(pixels)
    assert torch.equal(turned, pixels.permute(0, 3, 1, 2))
