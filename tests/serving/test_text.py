"""What the commands print: tables and reasons."""

import pytest

from serving.errors import reason
from serving.table import table


def test_table_aligns_its_columns():
    assert table(["file", "class"], [["a.png", "cat"]]) == "file   class\na.png  cat"


@pytest.mark.parametrize(
    "message",
    [
        "not a PNG",
        "Graph execution error:\n\nnot a PNG\n\t [[{{node decode}}]]",
        "Graph execution error:\n\nDetected at node x defined at (most recent call last):\n"
        "<stack traces unavailable>\nnot a PNG [[{{node x}}]] [Op:y]",
        "2 root error(s) found.\n  (0) INVALID_ARGUMENT:  not a PNG\n\t [[{{node x}}]]",
    ],
)
def test_reason_is_the_line_that_says_why(message):
    assert reason(ValueError(message)) == "not a PNG"


def test_an_error_without_message_is_named():
    assert reason(KeyError()) == "KeyError"
