import numpy as np
import pytest
from keras import ops

from layers import ClassToken
from tests.layers.check import assert_close, check_layer


@pytest.mark.parametrize("initializer", ["zeros", "ones"])
def test_layer_does_what_every_layer_does(initializer):
    check_layer(ClassToken, {"initializer": initializer}, (2, 3, 4), (2, 4, 4), weights=1)


def test_one_value_by_hand():
    layer = ClassToken(initializer="ones")
    answer = layer(np.array([[[2, 3]], [[4, 5]]], "float32"))
    assert_close(answer, [[[1, 1], [2, 3]], [[1, 1], [4, 5]]])


def test_no_tokens_leave_the_class_token_alone():
    assert ops.shape(ClassToken()(np.ones((2, 0, 4), "float32"))) == (2, 1, 4)


def test_unknown_number_of_tokens():
    assert ClassToken().compute_output_shape((None, None, 4)) == (None, None, 4)


def test_wrong_shape():
    with pytest.raises(ValueError, match=r"\(batch, tokens, dim\). Received: input_shape=\(2, 4\)"):
        ClassToken()(np.ones((2, 4), "float32"))
