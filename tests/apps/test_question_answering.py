import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from apps import question_answering as app
from data.questions import Questions
from metrics.spans import Answers
from models import bert
from models.transformers import depths, width
from preprocessing.readers import QuestionReader, question_reader
from serving.signature import ask
from tests.apps.every_app import Small

ODD = [
    ("", "The city is Oslo."),
    ("What is the city?", ""),
    ("", ""),
    ("What is the city?", " \n\t"),
    ("city " * 200, "word " * 10_000),
    ("\U0001f600?", "\U0001f600 \U0001f468‍\U0001f469‍\U0001f467"),
    ("شكرا؟", "شكرا جزيلا"),
    ("a\0b", "The\0city is\0Oslo."),
    (b"\xff?", b"\xff\xfe The city \xffis Oslo\xc3."),
]
FACTS = {
    "name": ["Zoë", "Anna", "Omar", "Li"],
    "city": ["Oslo", "New York", "Rome", "Köln"],
    "pet": ["dog", "cat", "snow owl", "fish"],
}
TINY: dict[str, Any] = {"length": 32, "stride": 6, "question_length": 10, "vocabulary_size": 200}


def article(number: int) -> dict[str, Any]:
    """A document of one or two facts, and the question for the city, which may not be one of them.

    A network that is to learn in seconds must not need the question, so it is always the same.
    """
    random = np.random.default_rng(number)
    kinds = random.permutation(list(FACTS))[: random.integers(1, 3)]
    facts = {kind: str(random.choice(FACTS[kind])) for kind in kinds}
    context = " ".join(f"The {kind} is {fact}." for kind, fact in facts.items())
    context = str(random.choice(["", "\U0001f44b "])) + context
    answers = []
    if "city" in facts:
        answers = [{"text": facts["city"], "answer_start": context.index(facts["city"])}]
    question = {"id": f"{number}", "question": "The city?", "answers": answers}
    return {"title": f"{number}", "paragraphs": [{"context": context, "qas": [question]}]}


def facts(folder: Path) -> str:
    """Writes three files of questions, half of them without an answer."""
    for name, numbers in {"train": (0, 320), "dev": (320, 360), "test": (360, 400)}.items():
        content = {"data": [article(number) for number in range(*numbers)]}
        (folder / f"{name}.json").write_text(json.dumps(content))
    return str(folder)


SMALL = Small(
    write=facts,
    settings={**TINY, "epochs": 2, "batch_size": 16, "learning_rate": 0.01, "warmup_epochs": 1.0},
    beats=("f1", 0.8),
    sections=["Most confident mistakes", "Answers in test documents"],
    few=("new.json", json.dumps({"data": [article(500)]})),
    odd=[{"question": question, "document": document} for question, document in ODD],
    bad={"stride": 400, "question_length": 0, "answerless_rows": 1.5, "max_answer_pieces": 0},
    ignored=[
        {"preset": "folder"},
        {"model": "bert", "preset": "folder", "vocabulary_size": 100},
        {"model": "bert", "preset": "folder", "dropout": 0.5},
    ],
    files=["tokenizer"],
)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Questions:
    return app.load(app.Config(data=facts(tmp_path_factory.mktemp("data"))))


@pytest.fixture(scope="module")
def reader(data) -> QuestionReader:
    options = {name: TINY[name] for name in ("stride", "question_length")}
    return question_reader(data.texts, **options, **app.Config(**TINY).reading)


def pointing(reader: QuestionReader, first: str, last: str):
    """A network that finds the words `first` to `last`, and no answer where they are not."""
    ids = reader.tokens.ids(tf.constant([first, last]))

    def answer(features):
        none = tf.one_hot(0, tf.shape(features["token_ids"])[1], 5.0, 0.0)
        return {
            name: none + 9.0 * tf.cast(features["token_ids"] == ids[row, end], tf.float32)
            for name, row, end in (("start", 0, 0), ("end", 1, -1))
        }

    return answer


def test_answers_are_cut_from_the_document_where_the_offsets_say(data, reader):
    pet, city = "\U0001f44b The pet is snow owl.", "The city is New York."
    filler = "The pet is cat. " * 30
    documents = [f"{pet} {city}", f"{city} {pet}", pet, f"{filler}{city} {filler}"]
    signature = app.signatures(app.Config(**TINY), data, reader, 0.9)["serving_default"]
    inputs = {"question": tf.constant(["The city?"] * 4), "document": tf.constant(documents)}
    found = signature.answer(pointing(reader, "new", "york"), inputs)
    found = {name: value.numpy() for name, value in found.items()}
    for number in (0, 1, 3):
        document = documents[number]
        assert document[found["start"][number] : found["end"][number]] == "New York"
        begin, end = found["start_byte"][number], found["end_byte"][number]
        assert document.encode()[begin:end] == found["answer"][number] == b"New York"
    assert found["answer"][2] == b"" and found["no_answer_score"][2] > 0.9
    for name in ("start", "end", "start_byte", "end_byte"):
        assert found[name][2] == -1 and found[name].dtype == np.int64
    assert ((found["score"] >= 0) & (found["score"] <= 1)).all()


def test_from_tokens_answers_as_the_network_and_never_outside_the_document(data, reader):
    chosen = app.Config(**TINY)
    model = app.build(chosen, reader)
    signature = app.signatures(chosen, data, reader, 1.0)["from_tokens"]
    features = signature.examples
    found = signature.answer(signature.compute(model), features)
    for name, logits in model(features).items():
        np.testing.assert_allclose(found[f"{name}_logits"], np.maximum(logits, -100), atol=1e-5)
        outside = found[f"{name}_logits"] == -100
        np.testing.assert_array_equal(outside, features["answer_mask"] == 0)


def test_a_threshold_removes_the_same_answers_in_the_graph_as_afterwards(data, reader):
    chosen = app.Config(**TINY)
    model = app.build(chosen, reader)
    always = app.evaluate(chosen, data, reader, model, "validation")
    assert len(always.texts) == 40 and all(always.texts)
    # Between two scores, as `best_threshold` chooses it.
    levels = np.unique(always.predictions["no_answer_score"])
    threshold = float(levels[len(levels) // 2 - 1 :][:2].mean())
    signature = app.signatures(chosen, data, reader, threshold)["serving_default"]
    table = {name: tf.constant(column) for name, column in data.table("validation").items()}
    served = signature.answer(signature.compute(model), table)["answer"].numpy()
    assert served.tolist() == always.with_threshold(threshold).predictions["answer"].tolist()
    assert 0 < np.count_nonzero(served) < 40


def test_the_loss_is_the_mean_of_the_cross_entropies_of_start_and_end(data, reader, monkeypatch):
    given = {}

    def train(run, make_model, feed, **options):
        given.update(options)

    monkeypatch.setattr(app, "train", train)
    monkeypatch.setattr(app, "load", lambda config: data)
    assert app.main(app.Config(**TINY)) == {}
    model = app.build(app.Config(**TINY, dropout=0.0), reader)
    compiled = {name: given[name] for name in ("loss", "loss_weights")}
    model.compile(**compiled, metrics=given["metrics"](), run_eagerly=True)
    features, labels = reader.labeled(next(iter(data.examples("train").batch(8))), seed=0)
    logs = model.test_on_batch(features, labels, return_dict=True)
    losses = [
        tf.nn.sparse_softmax_cross_entropy_with_logits(labels[name], logits)
        for name, logits in model(features).items()
    ]
    assert logs["loss"] == pytest.approx(np.mean(losses), rel=1e-5)
    assert {name.removeprefix("val_") for name in given["monitor"]} <= logs.keys()


@pytest.mark.slow
def test_the_threshold_of_validation_is_scored_and_exported(data, reader, monkeypatch):
    chosen, given = app.Config(**TINY), {}
    model = app.build(chosen, reader)
    monkeypatch.setattr(app, "load", lambda config: data)
    monkeypatch.setattr(app, "question_reader", lambda texts, **options: reader)
    monkeypatch.setattr(app, "train", lambda *arguments, **options: SimpleNamespace(model=model))
    monkeypatch.setattr(app, "finish", lambda run, trained, **options: given.update(options))
    # An untrained network's best threshold is 0, which would tell nothing.
    monkeypatch.setattr(
        Answers, "best_threshold", lambda own: float(np.median(own.predictions["no_answer_score"]))
    )
    app.main(chosen)
    validation, test = (
        app.evaluate(chosen, data, reader, model, split) for split in ("validation", "test")
    )
    threshold = given["scores"]["no_answer_threshold"]
    assert 0 < threshold < 1 and threshold == validation.best_threshold()
    expected = validation.with_threshold(threshold).scores["f1"]
    assert given["scores"]["validation_f1"] == expected
    table = data.table("test")
    served = ask(given["signatures"]["serving_default"], model, table, chosen.batch_size)
    assert (
        served["answer"].tolist() == test.with_threshold(threshold).predictions["answer"].tolist()
    )


def test_rows_without_the_answer_are_thinned_out_for_training_alone(data, reader):
    splits = app.feed(app.Config(**TINY, answerless_rows=0.5), data, reader).data
    shares = [next(iter(rows))["answerless_rows"] for rows in (splits.train, splits.validation)]
    assert shares == [0.5, 0.0]


def test_lower_layers_learn_slower(reader):
    chosen = app.Config(**TINY, layer_decay=0.5)
    scale = chosen.rates(width, depths).scale(app.build(chosen, reader))
    assert scale("logits/kernel") == 1.0 and scale("token_embedding/embeddings") == 0.25


@pytest.mark.slow
def test_the_question_decides_which_answer_is_found(reader, monkeypatch):
    # One layer cannot compare the question with what stands before an answer.
    monkeypatch.setitem(bert.BERT_SIZES, "tiny", bert.BertSize(2, 128, 2))
    document = "The pet is cat. The city is Oslo."
    begins = [document.index(word) for word in ("cat", "Oslo")]
    features, labels = reader.labeled(
        {
            "question": tf.constant(["The pet?", "The city?"]),
            "document": tf.constant([document] * 2),
            "begin": tf.constant(begins, tf.int64),
            "end": tf.constant([begins[0] + 3, begins[1] + 4], tf.int64),
            "number": tf.constant([0, 1]),
            "answerless_rows": tf.ones(2),
        },
        seed=0,
    )
    keras.utils.set_random_seed(0)
    model = app.build(app.Config(**TINY, dropout=0.0), reader)
    loss = {name: keras.losses.SparseCategoricalCrossentropy(True) for name in labels}
    model.compile(keras.optimizers.Adam(1e-3), loss, loss_weights=dict.fromkeys(labels, 0.5))
    for _ in range(100):
        model.reset_metrics()
        logs = model.train_on_batch(features, labels, return_dict=True)
        if logs["loss"] < 0.1:
            break
    # Whoever does not look at the question cannot get below log(2).
    assert logs["loss"] < 0.5 * np.log(2)
    logits = model.predict_on_batch(features)
    for name in labels:
        assert logits[name].argmax(axis=1).tolist() == labels[name].numpy().tolist()


def test_answers_and_confidence_are_shown_in_the_report(data):
    count = len(data.test)
    columns = {
        "answer": np.array([b"The"] * count, object),
        "score": np.full(count, 0.75),
        "no_answer_score": np.full(count, 0.5),
        "start": np.array([one.document.index("The") for one in data.test]),
        "end": np.array([one.document.index("The") + 3 for one in data.test]),
    }
    right = [[text for text, _ in one.answers] for one in data.test]
    documents = [one.document for one in data.test]
    test = Answers(columns, right, documents)
    mistakes, marked = app.report(data, test)
    question = data.test[test.worst[0]]
    assert mistakes.rows[0][0] == "The city?" == question.question
    assert mistakes.rows[0][2:] == ("The", "75%", question.id)
    assert len(marked.texts) == 12
    for title, *pieces in marked.texts:
        assert title == ("The city? (confidence 75%) \N{EM DASH} ", "")
        assert ("The", "predicted") in pieces
    assert "correct" in {label for text in marked.texts for _, label in text}
    none = Answers(columns | {"answer": np.array([b""] * count, object)}, right, documents)
    assert app.marked(data.test[0], none, 0)[0][0].startswith(
        "The city? (confidence of no answer 50%)"
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "gru"}, "`model` must be one of bert, bert_tiny"),
        ({"model": "bert"}, "`preset` must be given with model bert, and only then"),
        ({"answerless_rows": -0.1}, r"`answerless_rows` must be in \[0, 1\]"),
        ({"stride": 317}, r"`stride` must be in \[0, length - question_length - 3\), which is 317"),
        ({"stride": -1}, "`stride` must be in"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        app.Config(**changes)
