import numpy as np
import pytest

from models.text_writers import NAMES, steps_of, text_writer


@pytest.mark.parametrize("name", ["rnn", "lstm", "gru", "gpt_tiny"])
def test_each_name_gives_a_network_and_how_it_reads(name):
    model = text_writer(name, 20, length=8, units=16, layers=2, dropout=0.0)
    ids = np.array([[3, 1, 4, 1]], "int32")
    logits = model({"token_ids": ids, "padding_mask": np.ones_like(ids)})["logits"]
    first, _ = steps_of(name)(model).start(ids, 1)
    assert logits.shape == (1, 4, 20)
    np.testing.assert_allclose(first, logits[:, -1], atol=1e-5)


def test_every_name_is_known_and_others_are_refused():
    assert {"rnn", "lstm", "gru", "gpt_nano", "gpt_gpt2_xl"} < {*NAMES}
    with pytest.raises(ValueError, match=r"`name` must be one of rnn, .* Received: name='bert'"):
        text_writer("bert", 20)
