import csv
import json
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from apps import question_answering as app
from data.questions import Question, Questions
from metrics.spans import Answers
from models.bert import depths
from serving import checks
from serving.warmup import read_records

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


def article(number: int) -> dict:
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
    asked = {"id": f"{number}", "question": "The city?", "answers": answers}
    return {"title": f"{number}", "paragraphs": [{"context": context, "qas": [asked]}]}


@pytest.fixture(scope="module")
def facts(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    for name, numbers in {"train": (0, 320), "dev": (320, 360), "test": (360, 400)}.items():
        content = {"data": [article(number) for number in range(*numbers)]}
        (folder / f"{name}.json").write_text(json.dumps(content))
    return folder


def config(data: Path | str, out: Path, **changes) -> app.Config:
    small = {"length": 32, "stride": 6, "question_length": 10, "vocabulary_size": 200}
    quick = {"batch_size": 32, "learning_rate": 0.003, "warmup_epochs": 1.0}
    return app.Config(**{**small, **quick, "data": str(data), "out": out, **changes})


@pytest.fixture(scope="module")
def trained(tmp_path_factory, facts, run_here) -> tuple[Path, dict[str, float]]:
    folder = tmp_path_factory.mktemp("runs") / "facts"
    return folder, run_here(app, config(facts, folder, epochs=5))


@pytest.fixture(scope="module")
def answer(trained):
    return tf.saved_model.load(trained[0] / "1").signatures["serving_default"]


def test_questions_are_learnt_and_the_run_folder_is_whole(trained):
    folder, scores = trained
    assert scores["answerable_f1"] > 0.8 and scores["unanswerable_f1"] > 0.8
    assert 0 < scores["no_answer_threshold"] < 1
    assert sorted(path.name for path in folder.glob("[!.]*")) == [
        "1",
        "config.json",
        "example.csv",
        "history.csv",
        "model.keras",
        "report.html",
        "scores.json",
    ]
    assert json.loads((folder / "scores.json").read_text()) == scores
    report = (folder / "report.html").read_text()
    assert "The surest mistakes" in report and "<small>right and found</small>" in report


def test_the_loss_is_the_mean_of_the_cross_entropies_of_start_and_end(trained, facts):
    folder, _ = trained
    chosen = config(facts, folder)
    data = app.load(chosen)
    rows = app.labelled_rows(chosen, app.make_pieces(chosen, data), data.validation)
    model = keras.models.load_model(folder / "model.keras", compile=False)
    losses = []
    for features, labels in rows.batch(len(rows)):
        for name, logits in model(features).items():
            losses.append(tf.nn.sparse_softmax_cross_entropy_with_logits(labels[name], logits))
    with (folder / "history.csv").open(newline="") as file:
        last = list(csv.DictReader(file))[-1]
    assert float(last["val_loss"]) == pytest.approx(np.mean(losses), rel=1e-4)


def test_answers_are_cut_from_the_document_where_the_offsets_say(answer):
    pet, city = "\U0001f44b The pet is snow owl.", "The city is New York."
    documents = [f"{pet} {city}", f"{city} {pet}", pet]
    found = answer(question=tf.constant(["The city?"] * 3), document=tf.constant(documents))
    found = {name: value.numpy() for name, value in found.items()}
    for number, document in enumerate(documents[:2]):
        start, end = found["start"][number], found["end"][number]
        assert document[start:end] == "New York"
        first, behind = found["start_byte"][number], found["end_byte"][number]
        assert document.encode()[first:behind] == found["answer"][number] == b"New York"
    assert found["answer"][2] == b"" and found["no_answer_score"][2] > 0.5
    for name in ("start", "end", "start_byte", "end_byte"):
        assert found[name][2] == -1 and found[name].dtype == np.int64
    assert ((found["score"] >= 0) & (found["score"] <= 1)).all()


def test_an_answer_is_found_in_any_window_of_a_long_document(answer):
    filler = "The pet is cat. " * 30
    document = f"{filler}The city is Oslo. {filler}"
    found = answer(question=tf.constant(["The city?"]), document=tf.constant([document]))
    assert found["answer"].numpy() == [b"Oslo"]
    assert found["start"].numpy() == [document.index("Oslo")]


def test_any_text_gets_an_answer_and_leaves_its_neighbours_alone(answer):
    asked = [*ODD, ("The city?", "The city is Oslo.")]
    question, document = (tf.constant(column) for column in zip(*asked, strict=True))
    among = answer(question=question, document=document)
    alone = answer(question=question[-1:], document=document[-1:])
    for name, value in alone.items():
        if value.dtype.is_floating:
            np.testing.assert_allclose(among[name][-1:], value, atol=1e-5)
        else:
            assert among[name][-1] == value[0]
    assert alone["answer"].numpy() == [b"Oslo"]
    rows = zip(
        document.numpy(),
        *(among[name].numpy() for name in ("answer", "start_byte", "end_byte")),
        strict=True,
    )
    for text, found, begin, end in rows:
        assert found == (text[begin:end] if begin >= 0 else b"")
    for place in (1, 2, 3):
        assert among["answer"][place] == b"" and among["no_answer_score"][place] == 1
    assert np.isfinite(among["score"]).all() and np.isfinite(among["no_answer_score"]).all()


def test_from_tokens_answers_as_the_keras_model(trained):
    folder, _ = trained
    model = keras.models.load_model(folder / "model.keras", compile=False)
    served = tf.saved_model.load(folder / "1").signatures["from_tokens"]
    (record,) = [r for r in read_records(folder / "1") if r.signature == "from_tokens"]
    logits = model.predict(record.inputs, verbose=0)
    found = served(**{name: tf.constant(value) for name, value in record.inputs.items()})
    for name in ("start", "end"):
        expected = np.maximum(logits[name], -100)
        np.testing.assert_allclose(found[f"{name}_logits"], expected, atol=1e-4)
        assert ((expected == -100) == (record.inputs["answer_mask"] == 0)).all()


def test_the_export_passes_every_check_of_verify(trained):
    folder, _ = trained
    assert [found for found in checks.run(folder / "1") if not found.passed] == []


def test_without_unanswerable_questions_there_is_always_an_answer(trained, facts):
    folder, scores = trained
    chosen = config(facts, folder)
    data = app.load(chosen)
    pieces = app.make_pieces(chosen, data)
    model = keras.models.load_model(folder / "model.keras", compile=False)
    always = app.ask(chosen, app.answering(chosen, pieces), model, data.validation)
    assert all(always.texts)
    threshold = app.choose_threshold(data, always)
    assert threshold == pytest.approx(scores["no_answer_threshold"], abs=1e-5)
    assert always.with_threshold(threshold).scores["f1"] == scores["validation_f1"]
    answered = {
        split: tuple(asked for asked in getattr(data, split) if asked.answers)
        for split in ("train", "validation", "test")
    }
    assert app.choose_threshold(Questions(**answered), always) == 1.0


def test_lower_layers_learn_slower(facts, tmp_path):
    chosen = config(facts, tmp_path, layer_decay=0.5)
    model = app.build(chosen, app.make_pieces(chosen, app.load(chosen)))
    scale = chosen.scale(depths)(model)
    assert scale("logits/kernel") == 1.0 and scale("token_embedding/embeddings") == 0.125


def test_the_question_decides_which_answer_is_found(tmp_path):
    document = "The pet is cat. The city is Oslo."
    asked = tuple(
        Question("", f"The {kind}?", document, ((text, document.index(text)),))
        for kind, text in (("pet", "cat"), ("city", "Oslo"))
    )
    chosen = config("python_docs", tmp_path, dropout=0.0)
    pieces = app.make_pieces(chosen, Questions(asked, (), ()))
    ((features, labels),) = app.labelled_rows(chosen, pieces, asked).batch(2)
    model = app.build(chosen, pieces)
    loss = {name: keras.losses.SparseCategoricalCrossentropy(True) for name in labels}
    weights = dict.fromkeys(labels, 0.5)
    model.compile(keras.optimizers.Adam(1e-3), loss, loss_weights=weights)
    for _ in range(60):
        model.reset_metrics()
        found = model.train_on_batch(features, labels, return_dict=True)
        if found["loss"] < 0.1:
            break
    # Whoever does not look at the question cannot get below log(2).
    assert found["loss"] < 0.5 * np.log(2)
    logits = model.predict_on_batch(features)
    for name in labels:
        assert logits[name].argmax(axis=1).tolist() == labels[name].numpy().tolist()


def test_the_commonest_answer_is_trained_on():
    document = "Grüße, snow owl."
    answers = (("owl", 12), ("snow owl", 7), ("snow owl", 7))
    asked = [Question("", "?", document, answers), Question("", "?", document, ())]
    begins, ends = app.answer_bytes(asked)
    assert document.encode()[begins[0] : ends[0]] == b"snow owl"
    assert (begins[1], ends[1]) == (-1, -1)


def test_rows_that_miss_the_answer_can_be_thinned_out(facts, tmp_path):
    chosen = config(facts, tmp_path)
    pieces = app.make_pieces(chosen, app.load(chosen))
    document = "The pet is cat. " * 20 + "The city is Oslo. " + "The pet is cat. " * 20
    asked = [
        Question("", "The city?", document, (("Oslo", document.index("Oslo")),)),
        Question("", "The name?", document, ()),
    ]
    every, none, some = (
        list(app.labelled_rows(chosen, pieces, asked, share).as_numpy_iterator())
        for share in (1.0, 0.0, 0.5)
    )
    held = [labels["start"] > 0 for _, labels in every]
    without_answer = len(every) // 2
    assert 1 <= sum(held) <= 2 and not any(held[-without_answer:])
    assert len(none) == sum(held) + without_answer < len(some) < len(every)
    for features, labels in every:
        if labels["start"]:
            ids = features["token_ids"][labels["start"] : labels["end"] + 1]
            assert "".join(pieces.id_to_token(i).removeprefix("##") for i in ids) == "oslo"


def test_right_and_found_answers_are_marked_in_the_report():
    document = "a" * 500 + " in New York City."
    asked = Question("", "Where?", document, (("New York", 504),))

    def marked(start: int, end: int) -> list[tuple[str, str]]:
        answer = document[start:end].encode() if start >= 0 else b""
        found = {
            "answer": np.array([answer], object),
            "score": np.array([0.75]),
            "no_answer_score": np.array([0.5]),
            "start": np.array([start]),
            "end": np.array([end]),
        }
        return app.highlighted(asked, Answers(found, [["New York"]]), 0)

    assert [piece for piece in marked(508, 517) if piece[1]] == [
        ("New ", "right"),
        ("York", "right and found"),
        (" City", "found"),
    ]
    assert marked(508, 517)[0] == ("Where? (75% sure) \N{EM DASH} …", "")
    assert [piece for piece in marked(504, 512) if piece[1]] == [("New York", "right and found")]
    assert [piece for piece in marked(-1, -1) if piece[1]] == [("New York", "right")]
    assert "50% sure of no answer" in marked(-1, -1)[0][0]
    assert "".join(text for text, _ in marked(504, 512)[1:]) == document[104:]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "gru"}, "`model` must be one of bert, bert_tiny"),
        ({"model": "bert"}, "`preset` must be given with model bert, and else not"),
        ({"preset": "folder"}, "`preset` must be given with model bert, and else not"),
        ({"answerless_rows": 1.5}, "`answerless_rows` must be in 0 to 1"),
        ({"max_answer_pieces": 0}, "`max_answer_pieces` must be at least 1"),
        ({"question_length": 0}, "`question_length` must be at least 1"),
        ({"stride": 19}, "`stride` must be at least 0 and below length - question_length - 3"),
        ({"batch_size": 0}, "`batch_size` must be at least 1"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(changes, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        config("python_docs", tmp_path, **changes)
