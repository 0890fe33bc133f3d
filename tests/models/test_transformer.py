import keras
import numpy as np
import pytest

from models.transformer import TRANSFORMER_SIZES, TransformerSize, transformer


def parameters(vocabulary_size: int, size: TransformerSize, norm_first: bool = False) -> int:
    """Counts the parameters on paper."""
    layers, d, mlp, _ = size
    attention, norm = 4 * (d * d + d), 2 * d
    feed_forward = d * mlp + mlp + mlp * d + d
    encoder = attention + feed_forward + 2 * norm
    decoder = 2 * attention + feed_forward + 3 * norm
    return vocabulary_size * d + layers * (encoder + decoder) + 2 * norm * norm_first


@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize("size", ["tiny", "small"])
def test_there_are_as_many_parameters_as_on_paper(size, norm_first):
    expected = parameters(1000, TRANSFORMER_SIZES[size], norm_first)
    assert transformer(1000, size, norm_first=norm_first).count_params() == expected


@pytest.mark.slow
def test_the_base_network_has_65_million_parameters():
    # Table 3 of the paper, with the 37,000 pieces of its section 5.1, rounded there.
    model = transformer(37_000, "base")
    assert model.count_params() == parameters(37_000, TRANSFORMER_SIZES["base"])
    assert model.count_params() / 1e6 == pytest.approx(63.1, abs=0.05)


def test_positions_are_encoded_by_sines_and_cosines():
    model = transformer(5, "tiny")
    encoding = model.get_layer("position_encoding")
    found = np.asarray(encoding(np.zeros((1, 7, 128), "float32")))[0]
    for position in (0, 1, 6):
        for i in (0, 1, 63):
            angle = position / 10000 ** (2 * i / 128)
            assert found[position, 2 * i] == pytest.approx(np.sin(angle), abs=1e-6)
            assert found[position, 2 * i + 1] == pytest.approx(np.cos(angle), abs=1e-6)


def test_embeddings_are_scaled_and_shared():
    model = transformer(5, "tiny", dropout=0.0)
    table = np.asarray(model.get_layer("token_embedding").embeddings)
    inputs = keras.Model(model.input, model.get_layer("source_ids_embedded").output)
    ids = np.array([[3, 2]], "int32")
    found = np.asarray(inputs({"source_ids": ids, "target_ids": ids}))[0]
    positions = np.asarray(model.get_layer("position_encoding")(np.zeros((1, 2, 128))))[0]
    np.testing.assert_allclose(found, table[[3, 2]] * 128**0.5 + positions, atol=1e-5)
    assert len([w for w in model.weights if 5 in w.shape]) == 1


def test_an_unknown_size_is_refused():
    with pytest.raises(ValueError, match="`size` must be one of tiny, small, base"):
        transformer(5, "huge")
