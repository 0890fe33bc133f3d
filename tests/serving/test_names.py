"""Inputs may have any name, and are served under one that TensorFlow takes."""

import re
import unicodedata

import pytest

from serving.names import meant, served

NAMES = ["Größe (cm)", "mean radius", "2nd", "_x", "", "self", "output_1", "unknown", "身高", "ﬁn"]


def test_names_become_valid_and_valid_ones_stay():
    expected = ["Grosse_cm", "mean_radius", "x_2nd", "x", "x_00000000", "x_self", "x_output_1"]
    alone = [served([name])[name] for name in NAMES]
    assert alone == [*expected, "x_unknown", "x_9edc2386", "fin"]
    assert served(["age", "Mean_2", "output_power"]) == {
        "age": "age",
        "Mean_2": "Mean_2",
        "output_power": "output_power",
    }


def test_names_that_would_collide_differ_in_any_order():
    names = ["a b", "a-b", "a_b", "A_B", *NAMES]
    found = served(names)
    assert list(found) == names
    assert found["A_B"] == "A_B"
    assert len({name.lower() for name in found.values()}) == len(names)
    assert all(re.fullmatch("[A-Za-z][A-Za-z0-9_]*", name) for name in found.values())
    assert served(names[::-1]) == found


def test_names_that_look_the_same_are_refused():
    with pytest.raises(ValueError, match="must have names that look different"):
        served(["é", unicodedata.normalize("NFD", "é")])


def test_the_user_s_name_and_the_served_one_mean_the_input():
    inputs = {"Grosse_cm": "Größe (cm)", "age": "age"}
    for size in ("Größe (cm)", unicodedata.normalize("NFD", "Größe (cm)"), "Grosse_cm"):
        assert meant([size, "age", "other"], inputs) == {"Grosse_cm": size, "age": "age"}
    # Once the user's name is known, no other is guessed, and it comes before the served one.
    assert meant(["Grösse cm"], inputs) == {}
    assert meant(["Grosse_cm", "Größe (cm)"], inputs)["Grosse_cm"] == "Größe (cm)"


@pytest.mark.parametrize("names", [NAMES, ["a b", "a-b", "a_b", "A_B", "A b"]])
def test_names_are_found_without_a_card_too(names):
    found = served(names)
    unknown = dict.fromkeys(found.values())
    assert meant(names, unknown) == {name: title for title, name in found.items()}
    assert meant([*found.values()], unknown) == {name: name for name in found.values()}


def test_two_names_for_one_input_are_refused_unless_one_is_the_served():
    with pytest.raises(ValueError, match=r"mean the input `a_b`\. Received: 'a b', 'a-b'"):
        meant(["a b", "a-b"], {"a_b": None})
    assert meant(["a b", "a_b"], {"a_b": None}) == {"a_b": "a_b"}


def test_names_whose_letters_are_lost_are_never_mistaken():
    (age,) = served(["возраст"]).values()
    assert meant(["рост"], {age: None}) == {}
    assert meant(["рост", "имя", "", "возраст"], {age: None}) == {age: "возраст"}
    assert meant(["", "x"], {"x": None}) == {"x": "x"}
    assert len({*served(["Ø (mm)"]).values(), *served(["µ (mm)"]).values()}) == 2
