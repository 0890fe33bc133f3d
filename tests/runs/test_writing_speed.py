from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from runs import writing_speed


@pytest.fixture
def clock(monkeypatch):
    """A clock that the queries move: the first lasts 100 s, and each other 2 s."""
    now = SimpleNamespace(seconds=0.0)
    monkeypatch.setattr(writing_speed.time, "perf_counter", lambda: now.seconds)

    def ask(signature, model, columns, batch_size, watch):
        count = len(columns["prompt"])
        assert columns["seed"] == [7] * count and columns["top_k"] == range(count)
        assert columns["stop"] == [[""]] * count
        for query in watch(range(count)[i : i + batch_size] for i in range(0, count, batch_size)):
            now.seconds += 2.0 if query.start else 100.0
        return {"text": np.array(columns["prompt"]), "tokens": np.arange(count)}

    monkeypatch.setattr(writing_speed, "ask", ask)


def write(count: int) -> tuple[Any, dict[str, np.ndarray]]:
    run: Any = SimpleNamespace(facts={}, config=SimpleNamespace(choice={"seed": 7, "top_k": 0}))
    signature: Any = None
    columns = {"prompt": ["a"] * count, "top_k": range(count)}
    return run, writing_speed.written(run, signature, None, columns, 2)


def test_queries_after_the_first_are_timed(clock, capsys):
    run, answers = write(5)
    # Texts 2, 3 and 4 have as many tokens, and took 4 seconds.
    text = "The network wrote 2 tokens per second, 2 texts at a time."
    assert run.facts == {"writing": text} and capsys.readouterr().out == f"{text}\n"
    assert answers["text"].tolist() == ["a"] * 5


def test_a_single_query_has_no_speed(clock, capsys):
    run, _ = write(2)
    assert not run.facts and not capsys.readouterr().out


def test_training_reads_tokens_as_fast_as_rows_of_their_mean_number():
    trained: Any = SimpleNamespace(history={"examples_per_second": [5.0, 100.0, 120.0]})
    assert writing_speed.trained_tokens(trained, 20.5) == {"training tokens per second": "2,050"}
    assert writing_speed.trained_tokens(SimpleNamespace(history={}), 0.0) == {}  # type: ignore[arg-type]
