from serving.card import in_markdown

CARD = {
    "task": "image classification",
    "model": "lenet5",
    "data": "pets_2024",
    "classes": ["a|b", "*c*", "_d_", "<e>"],
    "remarks": "two\nlines",
    "scores": {"macro_f1": 0.5, "accuracy": None},
    "config": {},
    "Before and after": [{"prompt": "Hi", "reward": "1"}, {"prompt": "a|b", "reward": "2"}],
    "signatures": {
        "serving_default": {
            "inputs": [
                {
                    "name": "size_cm",
                    "title": "Size [cm]",
                    "dtype": "float32",
                    "shape": [None, 3],
                    "meaning": "how | tall",
                }
            ],
            "outputs": [
                {"name": "scores", "dtype": "float32", "shape": [None], "meaning": "sum to 1"}
            ],
            "ties": {"classes": "scores"},
        }
    },
}
MARKDOWN = r"""# Image classification: lenet5 on pets_2024

- **task**: image classification
- **model**: lenet5
- **data**: pets_2024
- **classes**: a\|b, \*c\*, \_d\_, \<e\>
- **remarks**: two lines

## scores

| name | value |
| --- | --- |
| macro_f1 | 0.5 |
| accuracy | None |

## Before and after

| prompt | reward |
| --- | --- |
| Hi | 1 |
| a\|b | 2 |

## Signature serving_default

|  | name | type | shape | meaning |
| --- | --- | --- | --- | --- |
| input | size_cm | float32 | n, 3 | how \| tall |
| output | scores | float32 | n | sum to 1 |

- **ties**: classes: scores
"""


def test_a_card_reads_well_in_markdown():
    assert in_markdown(CARD) == MARKDOWN


def test_a_card_that_says_little_has_a_title_too():
    assert in_markdown({"versions": {"keras": "3"}}).splitlines() == [
        *("# Model card", "", "", "## versions", ""),
        *("| name | value |", "| --- | --- |", "| keras | 3 |"),
    ]
