import keras
import numpy as np
import pytest

from models.bert import bert_backbone
from models.decoders import pretrained_decoder
from models.gpt import gpt_backbone, gpt_language_model
from models.recurrent import recurrent_language_model
from models.reward import Rating, pretrained_rater, rater_of, reward_model
from tests.models.test_decoders import INPUTS, TOKENS, llama_logits
from tests.models.tiny_llama import write_llama


@pytest.fixture(scope="module", params=["bert", "gpt"])
def rater(request):
    keras.utils.set_random_seed(0)
    backbone = bert_backbone if request.param == "bert" else gpt_backbone
    return reward_model(backbone("tiny", vocabulary_size=20, max_length=12, dropout=0.5))


def features(rater, ids: np.ndarray) -> dict[str, np.ndarray]:
    """Returns the features of rows of tokens, 0 in padding."""
    made = {"token_ids": ids, "segment_ids": np.zeros_like(ids), "padding_mask": np.sign(ids)}
    return {name: made[name].astype("int32") for name in rater.input}


IDS = np.random.default_rng(0).integers(1, 20, (3, 2, 8))
IDS[1, 1, 5:] = IDS[2, 0, 3:] = 0


def test_several_answers_get_the_rewards_that_each_gets_alone(rater):
    together = np.asarray(Rating(rater)(features(rater, IDS)))
    assert together.shape == (3, 2) and together.dtype == "float32"
    for prompt, answer in np.ndindex(3, 2):
        ids = IDS[prompt, answer]
        for row in (ids, ids[ids > 0], np.append(ids, [0, 0])):
            alone = rater(features(rater, row[None]))
            np.testing.assert_allclose(alone, together[prompt, answer][None], atol=1e-5)
    back = np.asarray(Rating(rater)(features(rater, IDS[::-1, ::-1])))
    np.testing.assert_allclose(back, together[::-1, ::-1], atol=1e-5)


def test_dropout_is_off_in_training_unless_it_is_wanted(rater):
    inputs = features(rater, IDS)
    still = np.asarray(Rating(rater)(inputs))
    np.testing.assert_array_equal(Rating(rater)(inputs, training=True), still)
    assert np.abs(Rating(rater, drops=True)(inputs, training=True) - still).max() > 0.01
    np.testing.assert_array_equal(Rating(rater, drops=True)(inputs), still)


def test_every_weight_but_the_calibration_learns(rater):
    names = {variable.path for variable in rater.non_trainable_variables}
    assert {name for name in names if "seed" not in name} == {"reward/gain", "reward/bias"}
    assert not [v for v in rater.trainable_variables if "pooled" in v.path]


def test_a_saved_reward_model_gives_the_same_rewards(rater, tmp_path):
    rater.get_layer("reward").calibrate(1.0, 2.0)
    rater.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    inputs = features(rater, IDS[:, 0])
    np.testing.assert_allclose(loaded(inputs), rater(inputs), atol=1e-6)
    assert Rating(loaded).finished() is loaded


def test_a_llama_rates_by_the_features_that_it_predicts_with(tmp_path):
    weights = write_llama(tmp_path)
    embedding = weights["model.embed_tokens.weight"][7]
    loaded = pretrained_rater(tmp_path, 20, 10)
    for rater in (loaded, rater_of(pretrained_decoder(tmp_path, 20))):
        rater.get_layer("reward").kernel.assign(embedding)
        for row, count in enumerate((5, 3)):
            expected = llama_logits(weights, TOKENS[row, :count])[-1, 7]
            assert float(rater(INPUTS)[row]) == pytest.approx(expected, abs=1e-4)


def test_lora_trains_the_head_too_and_is_merged_at_the_end(tmp_path):
    write_llama(tmp_path)
    rater = pretrained_rater(tmp_path, 20, 10, lora_rank=2)
    names = {variable.path.rpartition("/")[2] for variable in rater.trainable_variables}
    assert names == {"lora_kernel_a", "lora_kernel_b", "kernel"}
    for variable in rater.trainable_variables:
        variable.assign(keras.random.normal(variable.shape, stddev=0.3, seed=1))
    finished = Rating(rater).finished()
    assert not any("lora" in variable.path for variable in finished.variables)
    np.testing.assert_allclose(finished(INPUTS), rater(INPUTS), atol=1e-5)
    finished.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(loaded(INPUTS), rater(INPUTS), atol=1e-5)


def test_a_gpt_that_writes_rates_by_the_features_that_it_predicts_with(tmp_path):
    keras.utils.set_random_seed(0)
    writer = gpt_language_model(gpt_backbone("tiny", 20, 12, 0.0))
    writer.save(tmp_path / "model.keras")
    rater = rater_of(keras.saving.load_model(tmp_path / "model.keras"))
    embedding = writer.get_layer("token_embedding").embeddings
    rater.get_layer("reward").kernel.assign(embedding[7])
    logits = np.asarray(writer(INPUTS)["logits"])[[0, 1], [4, 2], 7]
    np.testing.assert_allclose(rater(INPUTS), logits, atol=1e-4)


def test_only_a_transformer_becomes_a_reward_model():
    with pytest.raises(ValueError, match="must be a GPT or a Llama"):
        rater_of(recurrent_language_model(20, "gru", 8, 1, 0.0))
