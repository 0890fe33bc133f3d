"""Each family of networks of each app, without training: exported, checked and evaluated again."""

from typing import Any

import pytest

from models import elmo
from runs import run as run_module
from serving import checks
from tests.apps.test_every_app import app_of, run_small
from tests.models.tiny_llama import write_llama
from tests.preprocessing.pretrained_pairs import SMOLLM2_TEMPLATE, write_tokenizer

RECURRENT = {"layers": 2, "bidirectional": False, "layer_normalization": True}
CHARACTERS = {"vocabulary_size": 8000}
TRANSFORMER = {"units": 128}
"""Defaults of settings that a network ignores, in place of those of SMALL."""
NO_PYRAMID = {
    **{"levels": (2, 3, 4, 5), "pyramid_channels": None, "head_units": None},
    "anchors": (16.0, 24.0),
}
GIVEN = {**NO_PYRAMID, "selective_search": "single", "windows": 100}
FAMILIES: list[tuple[str, dict[str, Any]]] = [
    ("image_classification", {"model": "mlp"}),
    ("image_classification", {"model": "cifar_resnet20", "norm": "group"}),
    ("image_classification", {"model": "googlenet", "image_size": (72, 72)}),
    ("image_classification", {"model": "mobilenet", "image_size": (32, 32)}),
    ("image_classification", {"model": "vit_tiny", "image_size": (32, 32)}),
    ("object_detection", {"model": "faster_rcnn", **NO_PYRAMID}),
    ("object_detection", {"model": "fast_rcnn", **GIVEN, "head_units": 32}),
    ("object_detection", {"model": "rcnn", **GIVEN, "crop_size": 32}),
    ("text_classification", {"model": "lstm", "pooling": "last", **RECURRENT}),
    ("text_classification", {"model": "rnn", "pooling": "max"}),
    ("text_classification", {"model": "bert_tiny", "pooling": "mean", **TRANSFORMER}),
    ("text_classification", {"model": "gpt_tiny", **TRANSFORMER}),
    ("text_classification", {"model": "elmo_tiny", **CHARACTERS}),
    ("token_classification", {"model": "gru", **RECURRENT}),
    ("token_classification", {"model": "bert_tiny", **TRANSFORMER}),
    ("token_classification", {"model": "elmo_tiny", **CHARACTERS}),
    ("question_answering", {"model": "bert_tiny"}),
    ("bert_pretraining", {"model": "bert_tiny"}),
    ("elmo_pretraining", {"model": "elmo_tiny"}),
    ("text_generation", {"model": "gpt_tiny", "units": 256}),
    ("text_generation", {"model": "lstm", "layers": 2}),
    ("dialogue", {"model": "gpt_tiny", "units": 256}),
    ("dialogue", {"model": "lstm", "layers": 2}),
    ("dialogue", {"model": "seq2seq", "units": 16}),
    ("dialogue", {"model": "seq2seq", "units": 16, "cell": "lstm", "attention": "luong"}),
    ("dialogue", {"model": "seq2seq", "units": 16, "attention": "none", "train_on": "all"}),
    ("alignment", {"model": "gpt_tiny"}),
    ("translation", {"model": "transformer_tiny", "norm_first": True}),
    ("translation", {"model": "seq2seq", "units": 16}),
    ("translation", {"model": "seq2seq", "units": 16, "cell": "lstm", "attention": "luong"}),
    ("translation", {"model": "seq2seq", "units": 16, "attention": "none"}),
]


@pytest.fixture(autouse=True)
def untrained(monkeypatch):
    monkeypatch.setattr(run_module, "fit", lambda *_, **__: {"loss": [1.0], "val_loss": [1.0]})


def passes(name: str, folder, **changes: Any) -> None:
    finished = run_small(name, folder, **changes)
    results = list(checks.run(finished.version))
    assert {result.check: result.detail for result in results if not result.passed} == {}
    app = app_of(name)
    again = app.main(app.Config.evaluating(finished.folder, out=folder / "evaluation"))
    assert again == pytest.approx(finished.scores, abs=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "changes"), FAMILIES, ids=[f"{name}-{c['model']}" for name, c in FAMILIES]
)
def test_the_export_of_every_family_passes_every_check(name, changes, tmp_path):
    passes(name, tmp_path, **changes)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "others"),
    [
        ("text_classification", TRANSFORMER),
        ("token_classification", TRANSFORMER),
        ("alignment", {}),
    ],
)
def test_the_export_of_a_pretrained_network_passes_every_check(name, others, minilm, tmp_path):
    passes(name, tmp_path, model="bert", preset=str(minilm), **others, **CHARACTERS)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["text_classification", "token_classification"])
def test_the_export_of_a_pretrained_elmo_passes_every_check(name, tmp_path):
    elmo.save_elmo(elmo.elmo_backbone("tiny"), tmp_path / "preset")
    passes(name, tmp_path, model="elmo", preset=str(tmp_path / "preset"), **CHARACTERS)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["text_generation", "dialogue"])
def test_the_export_of_a_pretrained_decoder_passes_every_check(name, tmp_path):
    preset = tmp_path / "preset"
    preset.mkdir()
    write_llama(preset, vocab_size=330, max_position_embeddings=64)
    write_tokenizer(preset, "llama3", chat_template=SMOLLM2_TEMPLATE)
    of_others = {"units": 256, "vocabulary": "bytes", "vocabulary_size": 4000}
    passes(name, tmp_path, model="gpt", preset=str(preset), lora_rank=2, **of_others)
