"""What makes the tests of apps fast: smaller networks, and graphs that are not optimized."""

import pytest
import tensorflow as tf

from models import bert, elmo, gpt, transformer


@pytest.fixture(scope="package", autouse=True)
def small_networks():
    """Gives smaller networks the names of the smallest."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(bert.BERT_SIZES, "tiny", bert.BertSize(1, 32, 2))
        patch.setitem(gpt.GPT_SIZES, "tiny", gpt.GPTSize(1, 16, 2))
        size = transformer.TransformerSize(1, 16, 32, 2)
        patch.setitem(transformer.TRANSFORMER_SIZES, "tiny", size)
        filters = ((1, 8), (2, 8), (3, 16))
        patch.setitem(elmo.ELMO_SIZES, "tiny", elmo.ElmoSize(32, 16, 1, filters))
        yield


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    """Keeps what tests compute out of the user's cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(autouse=True)
def plain_graphs(request):
    """Leaves graphs as they are in fast tests: to optimize them takes longer than they run."""
    slow = request.node.get_closest_marker("slow") is not None
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": not slow})
    yield
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": False})
