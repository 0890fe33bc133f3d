import numpy as np
import pytest

from data.windows import best_ious, sliding_windows


@pytest.mark.parametrize("most", [30, 500, 2000])
def test_windows_cover_the_image_and_are_nearly_as_many_as_they_may_be(most):
    windows = sliding_windows([40, 80, 300], [0.5, 1, 2], (240, 320), most)
    assert windows.dtype == np.float32
    assert 0.8 * most < len(windows) <= most
    assert np.all(windows >= 0) and np.all(windows <= [320, 240, 320, 240])
    assert windows[:, :2].min(axis=0).tolist() == [0, 0]
    assert windows[:, 2:].max(axis=0).tolist() == [320, 240]
    sides = np.unique(np.round(windows[:, 2:] - windows[:, :2], 2), axis=0)
    # 300 / sqrt(2) x 300 sqrt(2) and the other way are cut at 240 and 320 pixels.
    expected = [[28.28, 56.57], [40, 40], [56.57, 28.28], [56.57, 113.14], [80, 80]]
    expected += [[113.14, 56.57], [212.13, 240], [300, 240], [320, 212.13]]
    np.testing.assert_allclose(sides, sorted(expected), atol=0.01)


def test_each_shape_has_a_window():
    assert len(sliding_windows([10, 20], [1], (100, 100), 1)) == 2


def test_the_best_window_of_a_box():
    windows = np.float32([[0, 0, 10, 10], [10, 0, 20, 10]])
    boxes = np.float32([[0, 0, 10, 10], [5, 0, 20, 10], [30, 30, 40, 40]])
    np.testing.assert_allclose(best_ious(boxes, windows), [1, 10 / 15, 0])
