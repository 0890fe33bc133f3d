import numpy as np
import pytest

from layers import SpectralPooling2D
from tests.layers.check import assert_close, check_layer


def normal(*shape):
    return np.float32(np.random.default_rng(0).normal(size=shape))


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
    """Crops the centred spectrum of `(height, width)` and transforms back, with NumPy's FFT."""
    for axis, count in enumerate((rows, columns)):
        spectrum = np.moveaxis(np.fft.fft(x, axis=axis), axis, 0)
        size = len(spectrum)
        kept = np.zeros((count, *spectrum.shape[1:]), complex)
        for frequency in range(-((count - 1) // 2), (count - 1) // 2 + 1):
            kept[frequency % count] = spectrum[frequency % size]
        if count % 2 == 0:
            half = count // 2
            kept[half] = (spectrum[half] + spectrum[-half % size]) / 2
        cropped = np.fft.ifft(kept, axis=0) * count / size
        assert np.abs(cropped.imag).max() < 1e-9  # conjugate symmetry is kept
        x = np.moveaxis(cropped.real, 0, axis)
    return x


@pytest.mark.parametrize("height", [7, 8])
@pytest.mark.parametrize("width", [9, 10])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_equals_the_cropped_spectrum_of_numpy(height, width, stride):
    x = normal(1, height, width, 1)
    layer = SpectralPooling2D(2, stride, "same")
    y = layer(x)
    wanted = cropped_spectrum(x[0, :, :, 0].astype("float64"), *y.shape[1:3])
    assert_close(y[0, :, :, 0], wanted, rtol=1e-5, atol=1e-5)


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
