"""The same spans in every scheme of tags."""

import pytest

from data.tag_schemes import REMARKS, converted, recognized

BIO = ["B-per", "I-per", "I-per", "B-per", "O", "B-loc", "B-org", "I-org"]
FORMS = {
    "BIO": ("BIO", BIO),
    "IOB1": ("IOB1", ["I-per", "I-per", "I-per", "B-per", "O", "I-loc", "I-org", "I-org"]),
    "BIOES": ("BIOES", ["B-per", "I-per", "E-per", "S-per", "O", "S-loc", "B-org", "E-org"]),
    "BILOU": ("BIOES", ["B-per", "I-per", "L-per", "U-per", "O", "U-loc", "B-org", "L-org"]),
    "BMES": ("BIOES", ["B-per", "M-per", "E-per", "S-per", "O", "S-loc", "B-org", "E-org"]),
}


@pytest.mark.parametrize("form", FORMS)
def test_schemes_are_recognized_and_become_bio(form):
    scheme, tags = FORMS[form]
    assert recognized([tags, ["O"]]) == scheme in REMARKS
    assert converted(tags, scheme) == tuple(BIO)


@pytest.mark.parametrize("form", FORMS)
def test_single_errors_do_not_change_the_scheme(form):
    scheme, tags = FORMS[form]
    wrong = [["O", "I-per"], ["O", "E-per"], ["NN"], ["B-per", "O"]]
    assert recognized([*[tags] * 20, *wrong]) == scheme


def test_types_alone_are_spans_if_most_words_have_none_and_else_tags_of_words():
    spans = ["O", "O", "O", "per", "per", "O", "O", "loc", "per"]
    assert recognized([spans]) == "spans"
    assert converted(spans, "spans") == (
        *("O", "O", "O", "B-per", "I-per", "O", "O", "B-loc", "B-per"),
    )
    parts = [["PRON", "VERB", "NOUN", "NOUN", "."], ["O", "V", "N", "N"], ["-LRB-", "NN", "S-X"]]
    assert recognized(parts) == "words"
    assert converted(parts[0], "words") == ("B-PRON", "B-VERB", "B-NOUN", "B-NOUN", "B-.")
    assert converted(parts[1], "words")[0] == "B-O"


def test_words_outside_of_spans_alone_are_bio():
    assert recognized([["O", "O"], []]) == "BIO" and recognized([]) == "BIO"


def test_what_does_not_fit_stays_as_it_is():
    assert converted(["X", "", "B-a"], "BIOES") == ("X", "", "B-a")
    assert converted(["O", "I-a"], "BIO") == ("O", "I-a")
