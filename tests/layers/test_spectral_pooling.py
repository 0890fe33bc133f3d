import numpy as np
import pytest

from layers import SpectralPooling2D
from tests.layers.check import assert_close, check_layer, normal


@pytest.mark.parametrize(
    ("config", "out"),
    [
        ({}, (2, 3, 4, 3)),
        ({"pool_size": 3, "strides": 2, "padding": "same"}, (2, 3, 4, 3)),
        ({"pool_size": (2, 3), "strides": (1, 2)}, (2, 5, 3, 3)),
    ],
    ids=["halved", "same", "uneven"],
)
def test_layer_does_what_every_layer_does(config, out):
    check_layer(SpectralPooling2D, config, (2, 6, 8, 3), out, tolerance=1e-4)


def cropped_spectrum(x: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """The paper's algorithm 1 on `(height, width)`: transform, center crop, treat corner cases,
    transform back."""
    spectrum = np.fft.fftshift(np.fft.fft2(x))
    top = x.shape[0] // 2 - rows // 2
    left = x.shape[1] // 2 - columns // 2
    kept = np.fft.ifftshift(spectrum[top : top + rows, left : left + columns])
    # The frequencies of the even case that are their own conjugates are real, and the others
    # along the same edge are conjugates of each other.
    mirrored = np.conj(np.roll(kept[::-1, ::-1], 1, axis=(0, 1)))
    kept = (kept + mirrored) / 2
    shrunk = np.fft.ifft2(kept) * rows * columns / x.size
    assert np.abs(shrunk.imag).max() < 1e-12
    return shrunk.real


@pytest.mark.parametrize("size", [(7, 9), (7, 8), (8, 8), (12, 10), (6, 11)], ids=str)
@pytest.mark.parametrize("strides", [2, 3, (2, 1), (1, 2)], ids=str)
def test_equals_the_cropped_spectrum_of_numpy(size, strides):
    x = normal(1, *size, 2)
    y = SpectralPooling2D(2, strides, "same")(x)
    for channel in range(2):
        wanted = cropped_spectrum(x[0, :, :, channel].astype("float64"), *y.shape[1:3])
        assert_close(y[0, :, :, channel], wanted, rtol=1e-5, atol=1e-5)


def test_highest_frequency_of_an_even_crop_by_hand():
    # Of each side the frequencies 0 and -1 are kept. Half of this wave is at (1, 1), which is
    # left out, the other half at (-1, -1), which stays.
    i, j = np.indices((4, 4))
    x = np.float32(np.cos(np.pi * (i + j) / 2))[None, :, :, None]
    assert_close(SpectralPooling2D(2)(x)[0, :, :, 0], [[0.5, -0.5], [-0.5, 0.5]], atol=1e-6)


@pytest.mark.parametrize("side", [5, 6])
def test_without_a_crop_it_is_the_identity(side):
    x = normal(2, side, side, 2)
    assert_close(SpectralPooling2D(1)(x), x, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("side", [5, 6, 7, 8])
def test_constant_image_keeps_its_value(side):
    x = np.full((1, side, side, 1), 3.0, "float32")
    y = SpectralPooling2D(2, padding="same")(x)
    assert_close(y, np.full(y.shape, 3.0), rtol=1e-6)


def test_slow_wave_keeps_its_shape_and_fast_one_vanishes():
    positions = np.arange(8, dtype="float32")
    slow, fast = np.cos(2 * np.pi * positions / 8), np.cos(2 * np.pi * 3 * positions / 8)
    for wave, wanted in ((slow, slow[::2]), (fast, np.zeros(4))):
        x = np.broadcast_to(wave.reshape(1, 8, 1, 1), (1, 8, 8, 1))
        assert_close(SpectralPooling2D()(x)[0, :, 0, 0], wanted, atol=1e-6)


def test_bad_padding_is_refused():
    with pytest.raises(ValueError, match=r"`padding` must be .valid. or .same."):
        SpectralPooling2D(padding="full")
