"""Smaller networks under the names of the smallest, for all tests of apps."""

import pytest

from models import bert, elmo, gpt


@pytest.fixture(scope="session", autouse=True)
def small_networks():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(bert.BERT_SIZES, "tiny", bert.BertSize(1, 32, 2))
        patch.setitem(gpt.GPT_SIZES, "tiny", gpt.GPTSize(1, 16, 2))
        filters = ((1, 8), (2, 8), (3, 16))
        patch.setitem(elmo.ELMO_SIZES, "tiny", elmo.ElmoSize(32, 16, 1, filters))
        yield
