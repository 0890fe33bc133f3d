"""Tagged sentences from every form of data, good and bad."""

import collections

import pytest
import tensorflow as tf

from data import tagged_text
from data.sources import SPLITS, BadData

GOOD = "".join(f"Ann{i} B-per\nLee I-per\nruns O\n\nOslo B-loc\n{i} O\n\n" for i in range(40))


def sizes(found):
    return [len(getattr(found, split)) for split in SPLITS]


def contents(found, split):
    words, tags = next(iter(getattr(found, split).ragged_batch(len(getattr(found, split)))))
    return [
        ([word.decode() for word in sentence], [found.tags[tag] for tag in row])
        for sentence, row in zip(words.to_list(), tags.to_list(), strict=True)
    ]


def faults_of(path, content=None, **options):
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(BadData) as caught:
        tagged_text.load(str(path), **options)
    return str(caught.value)


def test_python_docs_tag_code_and_lose_its_quote_marks():
    found = tagged_text.load("python_docs")
    assert found.tags == ("O", "B-CODE", "I-CODE") and min(sizes(found)) > 150
    sentences = [sentence for split in SPLITS for sentence in contents(found, split)]
    tags = dict((" ".join(words), tags) for words, tags in sentences)
    text = next(text for text in tags if text.startswith("The __hash__ ( ) method"))
    assert tags[text][:5] == ["O", "B-CODE", "I-CODE", "I-CODE", "O"]
    assert not any('"' in words for words, _ in sentences)
    counts = collections.Counter(tag for _, tags in sentences for tag in tags)
    assert counts["O"] > counts["I-CODE"] > counts["B-CODE"] > 1500


def test_wnut17_loads_as_it_was_released(shared_data):
    found = tagged_text.load(str(shared_data / "wnut17"))
    assert sizes(found) == [3394, 1009, 1287] and len(found.tags) == 13 and found.tags[0] == "O"
    assert found.train.element_spec == (
        tf.TensorSpec((None,), tf.string),
        tf.TensorSpec((None,), tf.int32),
    )
    counts = collections.Counter(tag for _, tags in contents(found, "train") for tag in tags)
    assert counts["B-person"] == 660 and counts["I-creative-work"] == 206
    words, tags = contents(found, "validation")[1]
    assert words[5:9] == ["on", "Redondo", "Beach", "Blvd"]
    assert tags[5:9] == ["O", "B-location", "I-location", "I-location"]


@pytest.mark.parametrize("form", ["spaces", "tabs", "columns", "documents", "windows"])
def test_all_forms_of_a_file_give_the_same(tmp_path, form):
    content = {
        "spaces": GOOD,
        "tabs": "\ufeff" + GOOD.replace(" ", "\t").replace("\n\n", "\n\t\n"),
        "columns": GOOD.replace(" ", " NN ").replace("NN O", "-X- O"),
        "documents": "-DOCSTART- O\n\n" + GOOD.replace("Oslo", "-DOCSTART- O\n\nOslo", 1),
        "windows": GOOD.replace("\n", "\r\n"),
    }[form]
    (tmp_path / "people.conll").write_bytes(content.encode())
    (tmp_path / "plain.txt").write_text(GOOD)
    found = tagged_text.load(str(tmp_path / "people.conll"))
    plain = tagged_text.load(str(tmp_path / "plain.txt"))
    assert found.tags == ("O", "B-loc", "I-loc", "B-per", "I-per") and sum(sizes(found)) == 80
    for split in SPLITS:
        assert contents(found, split) == contents(plain, split)


@pytest.mark.parametrize(
    ("remark", "tags"),
    [
        ("Tags: BIO (IOB2).", "B-per I-per B-per O B-loc"),
        ("Tags: IOB1, converted to BIO.", "I-per I-per B-per O I-loc"),
        ("Tags: BIOES (or BILOU), converted to BIO.", "B-per E-per S-per O S-loc"),
        ("Tags: BIOES (or BILOU), converted to BIO.", "B-per L-per U-per O U-loc"),
    ],
)
def test_other_schemes_give_the_same_as_bio(tmp_path, remark, tags):
    words = ["Ann{i}", "Lee", "Bob", "saw", "Oslo"]
    lines = [f"{word} {tag}" for word, tag in zip(words, tags.split(), strict=True)]
    path = tmp_path / "people.txt"
    path.write_text("\n\n".join("\n".join(lines).format(i=i) for i in range(60)))
    found = tagged_text.load(str(path))
    assert remark in found.remarks and found.tags == ("O", "B-loc", "I-loc", "B-per", "I-per")
    for split in SPLITS:
        for _, row in contents(found, split):
            assert row == ["B-per", "I-per", "B-per", "O", "B-loc"]


def test_faults_of_another_scheme_name_the_tag_in_the_file(tmp_path):
    content = "".join(f"Ann{i} S-per\nran O\n\n" for i in range(40)) + "a O\nb E-per\n\nc X\n"
    message = faults_of(tmp_path / "a.bioes", content)
    assert "a.bioes line 122: expected B-per or I-per before E-per. Received: O." in message
    assert "a.bioes line 124: expected O, B-... or I-... (the BIO scheme). Received: the tag" in (
        message
    )


CONLLU = """# newdoc
# sent_id = {i}
# text = Ann{i} can't run.
1\tAnn{i}\tAnn\tPROPN\tNNP\t_\t3\tnsubj\t_\t_
2-3\tcan't\t_\t_\t_\t_\t_\t_\t_\t_
2\tca\tcan\tAUX\tMD\t_\t4\taux\t_\t_
3\tn't\tnot\tPART\tRB\t_\t4\tadvmod\t_\t_
3.1\tgone\tgo\tVERB\tVB\t_\t_\t_\t_\t_
4\trun\trun\tVERB\tVB\t_\t0\troot\t_\t_
5\t.\t.\tPUNCT\t.\t_\t4\tpunct\t_\t_

"""


def test_conllu_gives_parts_of_speech(tmp_path):
    for split in ("train", "dev", "test"):
        lines = "".join(CONLLU.format(i=f"{split}{i}") for i in range(3))
        (tmp_path / f"en-ud-{split}.conllu").write_text(lines)
        (tmp_path / f"en-ud-{split}.txt").write_text("Ann can't run.")
    found = tagged_text.load(str(tmp_path))
    assert sizes(found) == [3, 3, 3]
    assert found.tags == ("O", "B-AUX", "B-PART", "B-PROPN", "B-PUNCT", "B-VERB")
    assert contents(found, "test")[0] == (
        ["Anntest0", "ca", "n't", "run", "."],
        ["B-PROPN", "B-AUX", "B-PART", "B-VERB", "B-PUNCT"],
    )
    assert found.remarks[1:] == (
        "Not read: 3 files (.txt).",
        "Columns, from 0: words from 1, tags from 3.",
        "Not read: 15 lines of en-ud-train.conllu (comments, multiword tokens and empty nodes).",
        "Not read: 15 lines of en-ud-dev.conllu (comments, multiword tokens and empty nodes).",
        "Not read: 15 lines of en-ud-test.conllu (comments, multiword tokens and empty nodes).",
        "Tags: one per word, such as parts of speech; each word became a span, B-...",
        "Classes (train, validation, test): AUX (3, 3, 3), PART (3, 3, 3), PROPN (3, 3, 3), "
        "PUNCT (3, 3, 3), VERB (3, 3, 3).",
    )
    xpos = tagged_text.load(str(tmp_path), tag_column=4)
    assert xpos.tags == ("O", "B-.", "B-MD", "B-NNP", "B-RB", "B-VB")


def test_comments_are_told_from_words_that_begin_with_their_mark(tmp_path):
    path = tmp_path / "tweets.conll"
    path.write_text("".join(f"# id {i}\n#tag{i} B-x\n# O\n\n" for i in range(40)))
    found = tagged_text.load(str(path))
    assert sum(sizes(found)) == 40
    for words, tags in contents(found, "train"):
        assert words[0].startswith("#tag") and words[1:] == ["#"] and tags == ["B-x", "O"]
    assert "Not read: 40 lines of tweets.conll (comments)." in found.remarks


def test_a_word_may_hold_a_space_that_is_not_the_common_one(tmp_path):
    path = tmp_path / "prices.conll"
    path.write_text("".join(f"{number}\u00a0000  O\nOslo B-place \n\n" for number in range(40)))
    words, _ = next(iter(tagged_text.load(str(path)).train))
    assert words.numpy()[0].decode().endswith("\u00a0000") and len(words) == 2


def test_splits_may_be_named_as_in_conll2003(tmp_path):
    for name in ("eng.train", "eng.testa", "eng.testb", "README"):
        (tmp_path / name).write_text(GOOD)
    found = tagged_text.load(str(tmp_path))
    assert sizes(found) == [80, 80, 80]
    assert found.remarks[:2] == (
        "Splits: train from eng.train, validation from eng.testa, test from eng.testb.",
        "Not read: README.",
    )
    assert "Columns, from 0: words from 0, tags from 1." in found.remarks
    assert "Classes (train, validation, test): loc (40, 40, 40), per (40, 40, 40)." in found.remarks
    assert "In test, 80 of 80 different sentences are also in train, such as 'Ann0" in (
        "".join(found.remarks)
    )


def test_another_column_can_hold_the_tags(tmp_path):
    path = tmp_path / "people.bio"
    path.write_text("\n".join(f"{line} VERB" if line else "" for line in GOOD.split("\n")))
    assert "expected at least one other tag, such as B-person. Received: only the tag VERB. " in (
        faults_of(path)
    )
    for column in (1, -2):
        found = tagged_text.load(str(path), tag_column=column)
        assert found.tags[1:3] == ("B-loc", "I-loc")
    assert "to be one of 3 columns. Received: tag_column=7." in faults_of(path, tag_column=7)
    with pytest.raises(ValueError, match="must be a number for files"):
        tagged_text.load(str(path), tag_column="ner")


def test_more_sentences_move_no_old_ones(tmp_path):
    path = tmp_path / "people.conll"
    path.write_text(GOOD)
    before = tagged_text.load(str(path))
    path.write_text("New B-per\n\n" + GOOD)
    after = tagged_text.load(str(path))
    for split in SPLITS:
        kept = [sentence for sentence in contents(after, split) if sentence[0] != ["New"]]
        assert kept == contents(before, split)


def test_faults_are_reported_at_once_and_can_be_left_out(tmp_path):
    bad = [
        "a O\nb I-per",
        "a B-loc\nb I-per",
        "a E-per\nb O",
        "a O\nb",
        "a O c",
        "a B-",
        "caf\udce9 O",
        "\tO",
    ]
    content = (GOOD + "\n\n".join(bad)).encode(errors="surrogateescape")
    message = faults_of(tmp_path / "people.iob2", content)
    for line in (
        "8 problems",
        "people.iob2 line 282: expected B-per or I-per before I-per. Received: O.",
        "people.iob2 line 285: expected B-per or I-per before I-per. Received: B-loc.",
        "people.iob2 line 287: expected O, B-... or I-... (the BIO scheme). Received: the tag 'E-",
        "people.iob2 line 291: expected 2 fields. Received: 1 field in 'b'.",
        "people.iob2 line 293: expected 2 fields. Received: 3 fields in 'a O c'.",
        "people.iob2 line 295: expected O, B-... or I-... (the BIO scheme). Received: the tag 'B-'",
        "people.iob2 line 297: expected UTF-8 text. Received: bytes that are not UTF-8",
        "people.iob2 line 299: expected a word and its tag. Received: no word.",
        "--skip-bad",
    ):
        assert line in message
    found = tagged_text.load(str(tmp_path / "people.iob2"), skip_bad=True)
    assert found.skipped == 8 and sum(sizes(found)) == 80


def test_tag_without_training_sentences_is_reported_or_left_out(tmp_path):
    (tmp_path / "train.conll").write_text(GOOD)
    (tmp_path / "test.conll").write_text(GOOD + "Nobel B-prize\n")
    assert "tag prize: expected at least one training sentence. Received: 1 sentence" in (
        faults_of(tmp_path)
    )
    found = tagged_text.load(str(tmp_path), skip_bad=True)
    assert found.skipped == 1 and sizes(found)[2] == 80 and "B-prize" not in found.tags


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "expected one word and its tag per line. Received: no sentence."),
        ("\n \n", "Received: no sentence."),
        (GOOD.replace("B-per", "O").replace("I-per", "O").replace("B-loc", "O"), "only the tag O"),
        ("a O\n\nb B-x\n", "Received: 0 of 2 examples. Fix: add examples, or provide a split"),
    ],
)
def test_data_without_use_says_why_and_is_not_skipped(tmp_path, content, message):
    report = faults_of(tmp_path / "bad.conll", content, skip_bad=True)
    assert message in report and "--skip-bad" not in report


def test_data_that_is_not_there_says_what_is_expected(tmp_path):
    assert "or a built-in sample (python_docs)" in faults_of(tmp_path / "nowhere")
    (tmp_path / "notes.md").write_text("hello")
    assert "expected CoNLL files with train, dev and test in their names" in faults_of(tmp_path)


def test_tfds_in_the_form_of_conll2003_prefers_names_and_puts_o_first(store):
    import tensorflow_datasets as tfds

    def tags(*names):
        return tfds.features.Sequence(tfds.features.ClassLabel(names=names))

    row = {
        "tokens": ["Ann", "Lee", "ran"],
        "langs": ["en"] * 3,
        "chunks": ["O"] * 3,
        "ner": ["B-per", "I-per", "O"],
    }
    gap = {**row, "tokens": ["Ann", "", ""]}
    store(
        {
            "tokens": tfds.features.Sequence(tfds.features.Text()),
            "langs": tfds.features.Sequence(tfds.features.Text()),
            "chunks": tags("O", "B-np"),
            "ner": tags("B-per", "O", "I-per"),
        },
        train=[row] * 20,
        dev=[gap],
    )
    found = tagged_text.load("tfds:tiny")
    assert sizes(found) == [18, 1, 2] and found.tags == ("O", "B-per", "I-per")
    assert contents(found, "test")[0] == (row["tokens"], row["ner"])
    # An empty word would be padding.
    assert contents(found, "validation")[0] == (["Ann", " ", " "], row["ner"])
    assert len(list(found.words)) == 18
    assert tagged_text.load("tfds:tiny", tag_column="chunks").tags == ("O", "B-np")
    with pytest.raises(BadData, match=r"\(here: chunks, ner\)\. Received: .* --tag-column pos"):
        tagged_text.load("tfds:tiny", tag_column="pos")


def test_tfds_without_tags_is_refused(shared_tfds, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(shared_tfds))
    with pytest.raises(
        BadData, match=r"one sequence of words \(here: none\) and one sequence of tags"
    ):
        tagged_text.load("tfds:trec")


def test_each_sentence_has_its_line(tmp_path):
    path = tmp_path / "people.txt"
    path.write_text(GOOD)
    written, found = GOOD.split("\n"), tagged_text.load(str(path))
    for split in SPLITS:
        for number, (words, _) in enumerate(contents(found, split)):
            name, line = found.origin(split, number).split(" line ")
            assert name == "people.txt" and written[int(line) - 1].split()[0] == words[0]
    assert tagged_text.load("python_docs").origin("test", 0) == ""
