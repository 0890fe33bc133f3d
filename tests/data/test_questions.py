"""Questions from every form of data, good and bad."""

import json

import numpy as np
import pytest

from data import questions
from data.sources import SPLITS, BadData

CONTEXT = "Ännchen lives in Oslo. She is nine."


def squad(*titles, **changes):
    """SQuAD json of one question an article, and one without an answer."""
    answerable = {
        "id": "q",
        "question": " Where? ",
        "answers": [{"text": "Oslo", "answer_start": 17}, {"text": "in Oslo", "answer_start": 14}],
        **changes,
    }
    impossible = {"id": "n", "question": "Why?", "answers": [], "is_impossible": True}
    articles = [
        {
            "title": title,
            "paragraphs": [
                {"context": CONTEXT, "qas": [{**answerable, "id": f"q{title}"}, impossible]}
            ],
        }
        for title in titles
    ]
    return {"version": "v2.0", "data": articles}


def sizes(found):
    return [len(getattr(found, split)) for split in SPLITS]


def faults_of(path, content=None, **options):
    if content is not None:
        path.write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(BadData) as caught:
        questions.load(str(path), **options)
    return str(caught.value)


def check_answers(found):
    """Every answer is at its start; no document is in two splits."""
    seen = [{question.document for question in getattr(found, split)} for split in SPLITS]
    assert not (seen[0] & seen[1] or seen[0] & seen[2] or seen[1] & seen[2])
    for split in SPLITS:
        for question in getattr(found, split):
            for text, start in question.answers:
                assert question.document[start : start + len(text)] == text


def test_python_docs_ask_for_the_code_in_a_blank():
    found = questions.load("python_docs")
    check_answers(found)
    assert sum(sizes(found)) > 900 and min(sizes(found)) > 50 and found.origin("test", 0) == ""
    for question in found.test:
        ((answer, start),) = question.answers
        assert question.question.replace("____", f'"{answer}"') in question.document
        assert question.document[start - 1] == '"'
    assert len({question.id for split in SPLITS for question in getattr(found, split)}) == sum(
        sizes(found)
    )


def test_squad_splits_by_article(shared_data):
    path = shared_data / "squad_v1.1_dev" / "dev-v1.1.rebuilt.json"
    found = questions.load(str(path))
    check_answers(found)
    assert sum(sizes(found)) == 10570 and min(sizes(found)) > 300 and found.skipped == 0
    assert found.train[0].id == found.origin("train", 0) == "56be4db0acb8001400a502ec"
    assert found.train[0].answers[0] == ("Denver Broncos", 177)


def test_squad_can_be_split_by_files(shared_data, tmp_path):
    path = shared_data / "squad_v1.1_dev" / "dev-v1.1.rebuilt.json"
    articles = json.loads(path.read_text(encoding="utf-8"))["data"]
    (tmp_path / "train.json").write_text(json.dumps({"data": articles[:38]}))
    (tmp_path / "test.json").write_text(json.dumps({"data": articles[38:]}))
    found = questions.load(str(tmp_path))
    check_answers(found)
    assert sum(sizes(found)) == 10570 and found.validation
    assert len(found.test) == sum(len(p["qas"]) for a in articles[38:] for p in a["paragraphs"])


def test_more_articles_move_no_old_ones(tmp_path):
    path = tmp_path / "all.json"
    path.write_text(json.dumps(squad(*map(str, range(40)))))
    before = questions.load(str(path))
    path.write_text(json.dumps(squad(*map(str, range(60)))))
    after = questions.load(str(path))
    for split in SPLITS:
        assert set(getattr(before, split)) <= set(getattr(after, split))


def test_version_2_has_questions_without_answers_and_offsets_count_characters(tmp_path):
    for split in ("train-v2.0", "dev-v2.0", "test"):
        (tmp_path / f"{split}.json").write_text(json.dumps(squad(split), ensure_ascii=False))
    found = questions.load(str(tmp_path))
    assert sizes(found) == [2, 2, 2]
    question, impossible = found.validation
    assert question.question == "Where?" and question.answers == (("Oslo", 17), ("in Oslo", 14))
    assert impossible.answers == ()
    assert found.remarks[1:] == (
        f"In validation, 1 of 1 different documents is also in train, such as {CONTEXT!r}.",
        f"In test, 1 of 1 different documents is also in train, such as {CONTEXT!r}.",
        f"In test, 1 of 1 different documents is also in validation, such as {CONTEXT!r}.",
        "Documents: 1; questions without an answer: 3 of 6.",
    )


RECORDS = [
    {
        "id": f"q{i}",
        "title": f"title {i}",
        "context": f"{CONTEXT} {i}",
        "question": "Where?",
        "answers": {"text": ["Oslo", "in Oslo"], "answer_start": [17, 14]},
    }
    for i in range(40)
]


@pytest.mark.parametrize("form", ["jsonl", "json", "data.json", "lines.json"])
def test_records_of_one_question_are_read(tmp_path, form):
    path = tmp_path / f"all.{form}"
    path.write_text("\n".join(map(json.dumps, RECORDS)))
    if form in ("json", "data.json"):
        path.write_text(json.dumps(RECORDS if form == "json" else {"data": RECORDS}))
    found = questions.load(str(path))
    check_answers(found)
    together = [one for split in SPLITS for one in getattr(found, split)]
    assert sorted(one.document for one in together) == sorted(one["context"] for one in RECORDS)
    assert {one.answers for one in together} == {(("Oslo", 17), ("in Oslo", 14))}
    assert {one.id for one in together} == {one["id"] for one in RECORDS}


def test_titles_and_ids_may_be_missing_and_a_document_stays_in_one_split(tmp_path):
    bare = [{key: one[key] for key in ("context", "question", "answers")} for one in RECORDS]
    path = tmp_path / "all.jsonl"
    path.write_text("\n".join(map(json.dumps, bare + bare)))
    found = questions.load(str(path))
    check_answers(found)
    assert sum(sizes(found)) == 80
    content = squad(*map(str, range(40)))
    for number, article in enumerate(content["data"]):
        del article["title"]
        article["paragraphs"][0]["context"] += f" {number}"
        del article["paragraphs"][0]["qas"][0]["id"]
    (tmp_path / "squad.json").write_text(json.dumps(content))
    found = questions.load(str(tmp_path / "squad.json"))
    check_answers(found)
    names = [one.id for split in SPLITS for one in getattr(found, split) if one.answers]
    assert len(set(names)) == 40 and "squad.json, article 7, paragraph 0, question 0" in names


def test_a_record_without_answers_is_named_unless_it_has_none(tmp_path):
    rows = [{"context": CONTEXT, "question": "Why?"}, {**RECORDS[0], "answers": {"text": ["a"]}}]
    good = {"context": CONTEXT, "question": "Why?", "is_impossible": True}
    message = faults_of(tmp_path / "a.jsonl", "\n".join(map(json.dumps, [*rows, good])))
    assert "a.jsonl line 1, question 0: expected SQuAD" in message
    assert "Received: another layout (no 'answers')." in message
    assert "a.jsonl line 2, question q0: expected SQuAD" in message
    assert "Received: another layout (no 'answer_start')." in message and "line 3" not in message
    wrong = {**rows[0], "answers": {"text": ["Oslo"], "answer_start": [0]}}
    assert "a.jsonl line 1, question 0: expected the answer 'Oslo'. Received: 'Ännc' at" in (
        faults_of(tmp_path / "a.jsonl", json.dumps(wrong))
    )


def test_white_space_around_an_answer_is_no_part_of_it(tmp_path):
    path = tmp_path / "squad.json"
    spaced = squad(*"abcdefghijklmnopqrst", answers=[{"text": " Oslo", "answer_start": 16}])
    path.write_text(json.dumps(spaced))
    answers = [one.answers for one in questions.load(str(path)).train if one.answers]
    assert set(answers) == {(("Oslo", 17),)}
    blank = squad(*"ab", answers=[{"text": " ", "answer_start": 16}])
    assert "expected an answer that is not empty" in faults_of(path, blank)


def test_faults_name_file_article_and_question_and_can_be_left_out(tmp_path):
    content = squad(*map(str, range(40)))
    bad = [
        {"answers": [{"text": "Oslo", "answer_start": 16}]},
        {"answers": [{"text": "Rome", "answer_start": -1}]},
        {"answers": [{"text": "", "answer_start": 3}]},
        {"question": " "},
        {"question": "caf\udce9?"},
    ]
    content["data"] += [squad(f"bad{i}", **changes)["data"][0] for i, changes in enumerate(bad)]
    forms = [
        {"answers": None},
        {"answers": [{"text": "Oslo", "answer_start": ""}]},
        {"answers": [{"text": "Oslo", "answer_start": float("nan")}]},
        {"question": 5},
    ]
    content["data"] += [squad(f"form{i}", **form)["data"][0] for i, form in enumerate(forms)]
    content["data"] += [
        {"title": "odd", "paragraphs": [{"context": CONTEXT}, {"context": None, "qas": []}]},
        {"paragraphs": 5},
    ]
    path = tmp_path / "all.json"
    message = faults_of(path, content)
    for line in (
        "12 problems (the first 10 are listed)",
        "all.json, article 'bad0', question qbad0: expected the answer 'Oslo'. Received: ' Osl' at",
        "question qbad1: expected the answer 'Rome'. Received: 'Ännc' at character -1.",
        "question qbad2: expected an answer that is not empty. Received: '' at character 3.",
        "question qbad3: expected a question about a document. Received: no question.",
        "question qbad4: expected UTF-8 text. Received: bytes that are not UTF-8",
        "article 'form0', question qform0: expected SQuAD JSON",
        "question qform1: expected SQuAD JSON",
        "question qform2: expected SQuAD JSON",
        "question qform3: expected SQuAD JSON",
        "Received: another layout (a value of another type).",
        "article 'odd', paragraph 0: expected SQuAD JSON",
        "Received: another layout (no 'qas').",
        "--skip-bad",
    ):
        assert line in message
    found = questions.load(str(path), skip_bad=True)
    assert found.skipped == 12 and sum(sizes(found)) == 80 + 5 + 4


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "bad.json line 1: expected SQuAD JSON"),
        ('{"data":\n [1,}', "Received: invalid JSON (Expecting value"),
        ("[]", "bad.json: expected SQuAD JSON"),
        ('{"data": 5}', "Received: no list 'data'."),
        ('{"data": [{"title": "a"}]}', "article 0: expected SQuAD JSON: "),
        ('{"data": [{"title": "a"}]}', "Received: another layout (no 'paragraphs')."),
        ('{"data": [{"paragraphs": []}]}', "the train split: expected at least one example"),
        ('{"question": "Why?"}', "Received: another layout (no 'context')."),
        ('{"data": []}', "the train split: expected at least one example"),
        (squad("one"), "Received: 0 of 2 examples. Fix: add examples, or provide a split"),
    ],
)
def test_data_without_use_says_why_and_is_not_skipped(tmp_path, content, message):
    report = faults_of(tmp_path / "bad.json", content, skip_bad=True)
    assert message in report and "--skip-bad" not in report


def test_data_that_is_not_there_says_what_is_expected(tmp_path):
    assert "or a built-in sample (python_docs)" in faults_of(tmp_path / "nowhere")
    assert "expected SQuAD JSON files with train, dev and test in their" in faults_of(tmp_path)


def test_tfds_with_the_features_of_squad_splits_by_title(store):
    import tensorflow_datasets as tfds

    text = tfds.features.Text
    answers = tfds.features.Sequence({"text": text(), "answer_start": np.int32})
    rows = [
        {
            "id": str(i),
            "title": f"title {i}",
            "context": f"{CONTEXT} {i}",
            "question": "Where?",
            "answers": {"text": ["Oslo"], "answer_start": [17 if i else 3]},
        }
        for i in range(40)
    ]
    keys = ("id", "title", "context", "question")
    store({**{key: text() for key in keys}, "answers": answers}, train=rows, validation=rows[1:3])
    with pytest.raises(
        BadData, match=r"train, question 0: expected the answer 'Oslo'\. Received: 'chen' at"
    ):
        questions.load("tfds:tiny")
    found = questions.load("tfds:tiny", skip_bad=True)
    assert found.validation[0].answers == (("Oslo", 17),) and found.skipped == 1
    assert sizes(found)[1] == 2 and sizes(found)[2] > 0 and sum(sizes(found)) == 41


def test_tfds_with_other_features_is_refused(shared_tfds, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(shared_tfds))
    with pytest.raises(BadData, match="expected the features id, question, context and answers"):
        questions.load("tfds:trec")


def of_answers(*answers, document="Grüße, snow owl."):
    return questions.Question("", "Who?", document, answers)


def test_the_most_frequent_answer_is_trained_on_in_bytes():
    one = of_answers(("owl", 12), ("snow owl", 7), ("snow owl", 7))
    begin, end = one.span
    assert one.document.encode()[begin:end] == b"snow owl"
    assert of_answers(("owl", 12), ("snow owl", 7)).span == (14, 17)
    assert of_answers().span == (-1, -1)


def test_a_split_is_given_as_columns_and_as_tensors():
    train = (of_answers(("owl", 12)), of_answers(), of_answers(("a", 0), document="a"))
    found = questions.Questions(train=train, validation=train[2:], test=train[1:])
    assert found.texts == ["Grüße, snow owl.", "a", "Who?", "Who?", "Who?"]
    assert found.table("test") == {
        "question": [b"Who?"] * 2,
        "document": ["Grüße, snow owl.".encode(), b"a"],
    }
    assert found.table("train", [2])["document"] == [b"a"]
    rows = list(found.examples("train", 0.25).as_numpy_iterator())
    assert [(row["begin"], row["end"], row["number"]) for row in rows] == [
        (14, 17, 0),
        (-1, -1, 1),
        (0, 1, 2),
    ]
    assert {float(row["answerless_rows"]) for row in rows} == {0.25}
    assert next(found.examples("validation").as_numpy_iterator())["answerless_rows"] == 1.0


def test_whether_every_question_has_an_answer_is_seen_without_the_test_questions():
    answered, unanswered = (of_answers(("owl", 12)),), (of_answers(),)
    split = {"train": answered, "validation": answered, "test": unanswered}
    assert questions.Questions(**split).all_answered
    for name in ("train", "validation"):
        assert not questions.Questions(**{**split, name: unanswered}).all_answered


@pytest.mark.parametrize(
    ("count", "indices"), [(1, [0]), (3, [0, 3, 6]), (10, list(range(10))), (12, list(range(10)))]
)
def test_questions_are_picked_evenly_over_a_split(count, indices):
    found = questions.Questions(train=tuple(of_answers() for _ in range(10)))
    assert found.spread("train", count) == indices
