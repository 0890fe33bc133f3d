import keras
import keras_hub
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_text

from data.tokens import (
    BytePairs,
    Characters,
    WordPieces,
    at_first_pieces,
    character_offsets,
    cleaned,
    encode_gpt,
    labels_at_first_pieces,
    labels_of_spans,
    lengths,
    trimmed,
    words_with_offsets,
)
from serving import graph
from serving.export import Signature, export

TEXTS = [
    "The quick brown fox, isn't it? $5.00 [SEP] (yes)!",
    "Café naïve ÜBER façade a\u0301b Straße",
    "你好世界 hello日本語, コンニチハ 안녕하세요",
    "I 😀 love 👩‍👩‍👧 emoji ❤️!",
    "مرحبا بالعالم، كيف حالك؟ שלום",
    "tab\tline\r\nfeed a≠b",
    "",
]
HARD = [
    "",
    "word " * 10_000,
    "\u202eright to left \u200f مرحبا 😀",
    "nul \x00 bell \x07 \x85 \u2028 x",
    b"bad \xff\xe4\xbd bytes \xed\xa0\x80",
    "x" * 5000,
    "!" * 3000,
]
LETTERS = sorted({*"".join(TEXTS).lower(), *"".join(TEXTS)} - {*" \t\r\n"})


def vocabulary() -> list[str]:
    words = ["the", "quick", "The", "cafe", "hello", "straße", "##s", "##er", "word", "x"]
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words, *LETTERS]
    return list(dict.fromkeys([*pieces, *(f"##{letter}" for letter in LETTERS)]))


@pytest.fixture(scope="module")
def uncased() -> WordPieces:
    return WordPieces(keras_hub.models.BertTokenizer(vocabulary(), lowercase=True))


@pytest.fixture(scope="module")
def tiny() -> WordPieces:
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefgh", "##b", "##c"]
    return WordPieces(keras_hub.models.BertTokenizer(pieces))


def decoded(text: str | bytes) -> str:
    return text.decode("utf-8", "replace") if isinstance(text, bytes) else text


def test_cleaning_mends_bytes_and_keeps_the_length_of_valid_texts():
    texts = [*TEXTS, *HARD, "a\u00a0b\u3000c\u2003d", "\x80\x9f".encode()]
    clean = cleaned(tf.constant(texts)).numpy()
    for text, answer in zip(texts, clean, strict=True):
        answer = answer.decode()
        assert not any(ord(c) < 32 and c not in "\t\n\r" for c in answer)
        if not isinstance(text, bytes):
            assert len(answer.encode()) == len(text.encode())
    assert clean[-2].decode().split() == ["a", "b", "c", "d"]
    assert "bad \ufffd\ufffd bytes" in clean[len(TEXTS) + 4].decode()


def test_offsets_are_those_of_the_words_in_the_original_text():
    texts = [*TEXTS, *HARD]
    words, begins, ends = words_with_offsets(tf.constant(texts))
    for row, text in enumerate(texts):
        raw = text if isinstance(text, bytes) else text.encode()
        for word, begin, end in zip(words[row], begins[row], ends[row], strict=True):
            assert raw[begin:end].decode("utf-8", "replace") == word.numpy().decode()
    invalid = len(TEXTS) + 4
    assert words[invalid][0].numpy() == b"bad"
    assert begins[invalid].numpy()[2] == HARD[4].index(b"bytes")


def test_offsets_in_characters_are_pythons():
    texts = [*TEXTS, b"bad \xff\xe4\xbd bytes"]
    words, begins, ends = words_with_offsets(tf.constant(texts))
    begins = character_offsets(tf.constant(texts), begins)
    ends = character_offsets(tf.constant(texts), ends)
    for row, text in enumerate(texts):
        for word, begin, end in zip(words[row], begins[row], ends[row], strict=True):
            assert decoded(text)[begin.numpy() : end.numpy()] == word.numpy().decode()
    dense = character_offsets(tf.constant(["è!", "ab"]), tf.constant([3, 1]))
    assert dense.numpy().tolist() == [2, 1]


@pytest.mark.parametrize("lowercase", [True, False])
@pytest.mark.parametrize("strip_accents", [True, False])
def test_pieces_of_words_are_those_of_kerashub(lowercase, strip_accents):
    tokenizer = keras_hub.models.BertTokenizer(
        vocabulary(), lowercase=lowercase, strip_accents=strip_accents
    )
    pieces = WordPieces(tokenizer)
    words, _, _ = words_with_offsets(tf.constant(TEXTS))
    answer = pieces.pieces(words)
    assert answer.ragged_rank == 2
    expected = tokenizer(TEXTS)  # Outside of a graph KerasHub does this in plain Python.
    assert answer.merge_dims(1, 2).to_list() == [list(ids) for ids in expected]
    assert pieces.ids(tf.constant(TEXTS)).to_list() == [list(ids) for ids in expected]


def test_a_learned_vocabulary_writes_its_texts_and_is_saved(tmp_path):
    texts = ["Lions and tigers", "lions or bears", "tigers, bears! é"] * 20
    pieces = WordPieces.learned(texts, 60)
    again = WordPieces.learned(tf.data.Dataset.from_tensor_slices(texts).batch(7), 60)
    assert pieces.tokenizer.get_vocabulary() == again.tokenizer.get_vocabulary()
    assert 20 < pieces.vocabulary_size <= 60
    assert [pieces.id_to_token(i) for i in range(5)] == [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
    ]
    assert (pieces.pad_id, pieces.unknown_id, pieces.start_id) == (0, 1, 2)
    assert (pieces.end_id, pieces.mask_id) == (3, 4)
    ids = pieces.ids(tf.constant(texts[:3]))
    assert pieces.unknown_id not in ids.values
    assert pieces.tokenizer.detokenize(ids[1].numpy()) == "lions or bears"
    pieces.save(tmp_path)
    loaded = WordPieces.from_preset(tmp_path)
    assert loaded.ids(tf.constant(texts[:3])).to_list() == ids.to_list()
    keras_hub.models.BertBackbone(60, 1, 1, 8, 8).save_to_preset(tmp_path)
    assert WordPieces.from_preset(tmp_path).ids(tf.constant(texts[:3])).to_list() == ids.to_list()


def test_a_small_vocabulary_keeps_letters_and_cased_text_its_capitals():
    texts = ["Abcd abcd bcda " * 20]
    assert WordPieces.learned(texts, 14).vocabulary_size <= 14
    cased = WordPieces.learned(texts, 40, lowercase=False)
    assert any("A" in token for token in cased.tokenizer.get_vocabulary())


@pytest.mark.parametrize(
    ("texts", "size", "message"),
    [(["a"], 5, "`size` must be above 5"), (["  "], 30, "`texts` must hold at least one word")],
)
def test_a_vocabulary_of_nothing_is_refused(texts, size, message):
    with pytest.raises(ValueError, match=message):
        WordPieces.learned(texts, size)


def test_a_hugging_face_preset_reads_as_tensorflow_text_does(minilm):
    pieces = WordPieces.from_preset(minilm)
    assert pieces.vocabulary_size == 30522
    reference = tensorflow_text.BertTokenizer(
        str(minilm / "vocab.txt"), lower_case=True, token_out_type=tf.int32
    )
    # Unlike it KerasHub splits at the joiner of emojis and puts Korean letters together again.
    texts = [text.replace("안녕하세요", "") for text in TEXTS if "👩" not in text]
    expected = reference.tokenize(tf.constant(texts)).merge_dims(1, 2)
    assert pieces.ids(tf.constant(texts)).to_list() == expected.to_list()
    features = pieces.encode(tf.constant([["Café"]]), 5)
    assert features["token_ids"].numpy().tolist() == [[101, 7668, 102, 0, 0]]


def longest_first(first: list, second: list, room: int) -> tuple[list, list]:
    first, second = list(first), list(second)
    while len(first) + len(second) > room:
        (first if len(first) > len(second) else second).pop()
    return first, second


def test_pairs_are_packed_and_cut_as_in_bert(tiny):
    pairs = [("a b c d e", "f g"), ("a", "b c d e f g h"), ("a b c d e", "e f g h a"), ("", "")]
    for length in range(4, 14):
        features = tiny.encode(tf.constant(pairs), length)
        for row, texts in enumerate(pairs):
            ids = [tiny.tokenizer(text).tolist() if text else [] for text in texts]
            first, second = longest_first(*ids, length - 3)
            tokens = [2, *first, 3, *second, 3]
            padding = [0] * (length - len(tokens))
            assert features["token_ids"][row].numpy().tolist() == tokens + padding
            kinds = [0] * (len(first) + 2) + [1] * (len(second) + 1)
            assert features["segment_ids"][row].numpy().tolist() == kinds + padding
            mask = [1] * len(tokens) + padding
            assert features["padding_mask"][row].numpy().tolist() == mask
    assert all(feature.dtype == tf.int32 for feature in features.values())


def test_rows_may_be_as_long_as_the_longest_only(tiny):
    texts = tf.constant([["a b"], ["a b c d"]])
    assert tiny.encode(texts, 100, fixed=False)["token_ids"].shape == (2, 6)
    assert tiny.encode(texts, 5, fixed=False)["token_ids"].shape == (2, 5)


def test_columns_of_padding_are_cut_off_and_counted(tiny):
    texts = tf.constant([["a b"], ["a b c d"]])
    features = tiny.encode(texts, 100)
    assert lengths(features).numpy().tolist() == [4, 6]
    short = tiny.encode(texts, 100, fixed=False)
    for name, values in trimmed(features).items():
        np.testing.assert_array_equal(values, short[name])


def test_no_texts_give_no_rows(tiny):
    assert tiny.encode(tf.zeros((0, 2), tf.string), 9)["token_ids"].shape == (0, 9)
    features, places = tiny.encode_words(tf.ragged.constant([[], []], tf.string, 1), 9)
    assert features["token_ids"].shape == (2, 9) and places["first_piece"].shape == (2, 0)
    features, _ = tiny.windows(tf.constant([""]), tf.constant([""]), 9, 0, question_length=4)
    assert features["token_ids"].numpy().tolist() == [[2, 3, 3, 0, 0, 0, 0, 0, 0]]


def test_any_text_is_answered_in_a_data_set_of_any_batch(uncased):
    data = tf.data.Dataset.from_tensor_slices(HARD).batch(3)
    data = data.map(lambda texts: uncased.encode(tf.stack([texts, texts], 1), 32))
    assert data.element_spec["token_ids"].shape.as_list() == [None, 32]
    batches = list(data.as_numpy_iterator())
    assert [len(batch["token_ids"]) for batch in batches] == [3, 3, 1]
    assert all((batch["token_ids"][:, 0] == uncased.start_id).all() for batch in batches)


@pytest.mark.parametrize("texts", [["a"], [["a", "b", "c"]]])
def test_texts_of_another_shape_are_refused(tiny, texts):
    with pytest.raises(ValueError, match="`texts` must be of shape"):
        tiny.encode(tf.constant(texts), 8)


def test_too_little_room_is_refused(tiny):
    with pytest.raises(ValueError, match="`length` must be above 3"):
        tiny.encode(tf.constant([["a", "b"]]), 3)
    with pytest.raises(ValueError, match="`stride` must be at least 0"):
        tiny.encode_words(tf.ragged.constant([["a"]]), 6, stride=4)
    with pytest.raises(ValueError, match="`stride` must be at least 0"):
        tiny.windows(tf.constant(["a"]), tf.constant(["b"]), 16, stride=4, question_length=9)


def test_every_word_is_read_once_at_its_first_piece(tiny):
    sentences = [["a", "bcb", "d"], [], ["abc"] * 40, ["\x00", "\u0301", "e"]]
    words = tf.ragged.constant(sentences)
    for length, stride, fixed in ((10, None, True), (10, 0, True), (5, 1, False), (300, 8, False)):
        features, places = tiny.encode_words(words, length, stride, fixed)
        first = places["first_piece"].numpy()
        assert first.shape == (4, 40)
        width = features["token_ids"].shape[1]
        flat = features["token_ids"].numpy().ravel()
        for row, sentence in enumerate(sentences):
            assert (first[row, len(sentence) :] == -1).all()
            for word, place in zip(sentence, first[row], strict=False):
                ids = tiny.ids(tf.constant([word])).to_list()[0] or [tiny.unknown_id]
                assert flat[place] == ids[0]
                assert places["example"].numpy()[place // width] == row
        assert len({*first[first >= 0]}) == 46
        assert set(places["example"].numpy()) == {0, 1, 2, 3}


def test_a_word_is_read_in_the_row_that_shows_most_around_it(tiny):
    words = tf.constant([["a", "b", "c", "d", "e", "f", "g", "h"] * 4])
    words = tf.RaggedTensor.from_tensor(words)
    features, places = tiny.encode_words(words, 10, stride=4)
    assert features["token_ids"].shape == (7, 10)
    for word, place in enumerate(places["first_piece"].numpy()[0]):
        row, column = divmod(int(place), 10)
        begins = [4 * r for r in range(7) if 4 * r <= word < 4 * r + 8]
        sides = {b: min(word - b, b + 7 - word) for b in begins}
        assert (row, column) == (row, 1 + word - 4 * row)
        edge = word < 4 or word >= 28
        assert edge or sides[4 * row] == max(sides.values())


def test_labels_lie_at_first_pieces_and_are_read_from_there(tiny):
    words = tf.ragged.constant([["a", "bcb"], ["abc"] * 9])
    features, places = tiny.encode_words(words, 8)
    labels = tf.constant([[1, 2, *[9] * 7], [3, 4, 5, 6, 7, 8, 9, 10, 11]])
    spread = labels_at_first_pieces(labels, places["first_piece"], features["token_ids"])
    assert spread.shape == features["token_ids"].shape
    assert sorted(spread.numpy()[spread.numpy() >= 0]) == list(range(1, 12))
    read = at_first_pieces(spread[..., None], places["first_piece"]).numpy()[..., 0]
    assert read[0, :2].tolist() == [1, 2] and read[1].tolist() == list(range(3, 12))


def test_rows_of_a_long_document_overlap_and_know_their_bytes(tiny):
    questions = tf.constant(["a b", "h"])
    document = "é a b c d, e f g h a b c"
    documents = tf.constant([document, "d e"])
    features, places = tiny.windows(questions, documents, 11, stride=2, question_length=4)
    ids = features["token_ids"].numpy()
    # [CLS] a b [SEP] leaves 6 of 13 pieces, each row begins 4 later; [CLS] h [SEP] leaves 7.
    assert places["example"].numpy().tolist() == [0, 0, 0, 1]
    begins, ends = places["begins"].numpy(), places["ends"].numpy()
    raw = document.encode()
    seen = []
    for row in range(3):
        assert ids[row, :4].tolist() == [2, 5, 6, 3]
        inside = begins[row] >= 0
        assert (features["segment_ids"].numpy()[row][inside] == 1).all()
        bounds = begins[row][inside], ends[row][inside]
        seen.append([raw[b:e].decode() for b, e in zip(*bounds, strict=True)])
    assert seen[0] == ["é", "a", "b", "c", "d", ","]
    assert seen[1] == ["d", ",", "e", "f", "g", "h"]
    assert seen[2] == ["g", "h", "a", "b", "c"]
    mask = features["answer_mask"].numpy()
    assert (mask[:, 0] == 1).all() and ((begins >= 0)[:, 1:] == mask[:, 1:]).all()
    assert ids[3].tolist() == [2, 12, 3, 8, 9, 3, 0, 0, 0, 0, 0]


def test_answers_are_found_in_the_rows_that_hold_them_whole(tiny):
    document = "é a b c d, e f g h a b c"
    features, places = tiny.windows(
        tf.constant(["a b", "a b", "a"]), tf.constant([document] * 3), 11, 2, question_length=4
    )
    begin = document.encode().index(b"e f")
    spans = tf.constant([begin, begin, -1], tf.int64), tf.constant([begin + 3] * 2 + [-1], tf.int64)
    starts, ends = labels_of_spans(places, *spans)
    first = places["example"].numpy() == 0
    assert starts.numpy()[first].tolist() == [0, 6, 0]
    assert ends.numpy()[first].tolist() == [0, 7, 0]
    assert not starts.numpy()[places["example"].numpy() == 2].any()
    assert features["token_ids"].numpy()[1, 6:8].tolist() == [9, 10]


def test_gpt_takes_texts_and_pairs_in_one_or_both_orders(tiny):
    features = encode_gpt(tiny, tf.constant([["a b"], ["c"]]), 6)
    assert features["token_ids"].numpy().tolist() == [[[2, 5, 6, 4, 0, 0]], [[2, 7, 4, 0, 0, 0]]]
    assert features["padding_mask"].numpy().tolist() == [[[1, 1, 1, 1, 0, 0]], [[1, 1, 1, 0, 0, 0]]]
    assert features["extract"].numpy().tolist() == [[3], [2]]
    pair = encode_gpt(tiny, tf.constant([["a b", "c"]]), 10, symmetric=True, fixed=False)
    assert pair["token_ids"].numpy().tolist() == [[[2, 5, 6, 3, 7, 4], [2, 7, 3, 5, 6, 4]]]
    assert pair["extract"].numpy().tolist() == [[5, 5]]
    with pytest.raises(ValueError, match="must be pairs"):
        encode_gpt(tiny, tf.constant([["a"]]), 10, symmetric=True)


def gpt2_tokenizer():
    known = {"<|endoftext|>": 0, "a": 1, "Ġ": 2, "q": 3, "u": 4, "Ġq": 5, "Ġqu": 6}
    return keras_hub.models.GPT2Tokenizer(vocabulary=known, merges=["Ġ q", "Ġq u"])


def test_gpt2_gets_two_tokens_more_and_is_saved_in_graphs(tmp_path):
    tokens = BytePairs(gpt2_tokenizer())
    assert tokens.vocabulary_size == 9
    module = tf.Module()
    module.tokenizer = tokens.tokenizer
    module.encode = tf.function(
        lambda texts: encode_gpt(tokens, texts, 8),
        input_signature=[tf.TensorSpec((None, 2), tf.string)],
        autograph=False,
    )
    tf.saved_model.save(module, str(tmp_path))
    assert not graph.unservable(graph.operations(graph.read(tmp_path)))
    for encode in (module.encode, graph.load(tmp_path).encode):
        features = encode(tf.constant([["a qu", "a"]]))
        assert features["token_ids"].numpy().tolist() == [[[0, 1, 6, 7, 1, 8, 0, 0]]]
        assert features["extract"].numpy().tolist() == [[5]]


def test_words_are_spelled_as_in_elmo():
    words = tf.ragged.constant([["hé", "x" * 60], [], ["\x00"]])
    ids = Characters().encode_words(words).numpy()
    assert ids.shape == (3, 4, 50)
    pad = [261]
    assert ids[0, 0].tolist() == [259, 257, 260, *pad * 47]
    assert ids[0, 1].tolist() == [259, *(byte + 1 for byte in "hé".encode()), 260, *pad * 45]
    assert ids[0, 2].tolist() == [259, *[ord("x") + 1] * 48, 260]
    assert ids[0, 3].tolist() == [259, 258, 260, *pad * 47]
    assert ids[1, :2, 1].tolist() == [257, 258] and not ids[1, 2:].any()
    assert ids[2, 1].tolist() == [259, 1, 260, *pad * 47]
    assert ids.max() < Characters.vocabulary_size
    with pytest.raises(ValueError, match="`word_length` must be at least 3"):
        Characters(word_length=2)


def counting_model() -> keras.Model:
    inputs = {
        name: keras.Input((None,), dtype="int32", name=name)
        for name in ("token_ids", "segment_ids", "padding_mask")
    }
    x = keras.layers.Embedding(200, 3)(inputs["token_ids"])
    x = keras.layers.Add()([x, keras.layers.Embedding(2, 3)(inputs["segment_ids"])])
    x = x * keras.ops.cast(inputs["padding_mask"], "float32")[..., None]
    return keras.Model(inputs, keras.ops.sum(x, 1))


@pytest.mark.parametrize("fixed", [True, False])
def test_an_exported_graph_encodes_texts_as_here(uncased, tmp_path, fixed):
    model = counting_model()

    def preprocess(text, other):
        return uncased.encode(tf.stack([text, other], 1), 24, fixed)

    signature = Signature(
        inputs=tuple(tf.TensorSpec((None,), tf.string, name=name) for name in ("text", "other")),
        preprocess=preprocess,
        postprocess=lambda sums: {"sums": sums},
        words={"text": "any", "other": "any", "sums": "of embeddings"},
        resources=(uncased.tokenizer,),
    )
    texts = np.array([*TEXTS, *HARD], dtype=object)
    warmup = {"text": texts, "other": texts[::-1]}
    version = export(tmp_path, model, {"serving_default": signature}, warmup, {"task": "test"})
    served = graph.load(version).signatures["serving_default"]
    answer = served(text=tf.constant(texts), other=tf.constant(texts[::-1]))["sums"]
    expected = model(preprocess(tf.constant(texts), tf.constant(texts[::-1])))
    np.testing.assert_allclose(answer, expected, atol=1e-5)


def test_rows_of_words_documents_and_orders_are_saved_in_graphs(uncased, tmp_path):
    module = tf.Module()
    module.tokenizer = uncased.tokenizer

    def everything(text):
        words, _, _ = words_with_offsets(text)
        features, places = uncased.encode_words(words, 16)
        rows, spans = uncased.windows(text, text, 16, 2, question_length=4)
        gpt = encode_gpt(uncased, tf.stack([text, text], 1), 16, symmetric=True)
        letters = Characters().encode_words(words[:, :20])
        characters = character_offsets(text, tf.strings.length(text))
        answers = [features, places, rows, spans, gpt, letters, characters]
        return {f"a{n}": value for n, value in enumerate(tf.nest.flatten(answers))}

    signature = [tf.TensorSpec((None,), tf.string, name="text")]
    tf.saved_model.save(
        module,
        str(tmp_path),
        signatures=tf.function(everything, input_signature=signature, autograph=False),
    )
    assert not graph.unservable(graph.operations(graph.read(tmp_path)))
    served = graph.load(tmp_path).signatures["serving_default"]
    texts = tf.constant([*TEXTS, "", "word " * 100, b"\xff x"])
    answers, expected = served(text=texts), everything(texts)
    assert answers.keys() == expected.keys()
    for name in answers:
        np.testing.assert_array_equal(answers[name], expected[name])
