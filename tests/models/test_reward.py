import keras
import numpy as np
import pytest

from models.bert import bert_backbone
from models.gpt import gpt_backbone
from models.reward import Rating, reward_model


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
