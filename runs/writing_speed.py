"""How fast a network that writes texts is trained, and how fast it writes."""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from runs.reading import said
from runs.run import Run, Trained
from serving.signature import Signature, ask


def trained_tokens(trained: Trained, tokens_per_row: float) -> dict[str, str]:
    """Returns the fact how many tokens per second training read; none without a training.

    Args:
        trained: What `train` returned.
        tokens_per_row: As `runs.reading.padding` returns it.
    """
    rows = trained.history.get("examples_per_second")
    return (
        {"training tokens per second": f"{np.median(rows) * tokens_per_row:,.0f}"} if rows else {}
    )


def written(
    run: Run,
    signature: Signature,
    model: keras.Model,
    columns: Mapping[str, Sequence[Any] | np.ndarray],
    batch_size: int = 32,
) -> dict[str, np.ndarray]:
    """Lets a trained network write, as `ask` does, and says how many tokens per second.

    The first query, which builds the graph, is not timed; if there is no other, nothing is said.

    Args:
        run: What `start` returned.
        signature: Has the output `tokens`, the number of tokens that were written.
        model: The network.
        columns: As of `ask`. Settings of the loop that are not among them are those of the run, and
            there are no stop strings.
        batch_size: Texts of a query.
    """
    config: Any = run.config
    count = len(next(iter(columns.values())))
    usual = {name: [value] * count for name, value in config.choice.items()}
    columns = {**usual, "stop": [[""]] * count, **columns}
    seconds, rows = 0.0, list[int]()

    def timed(queries: Iterable[range]) -> Iterator[range]:
        nonlocal seconds
        for number, query in enumerate(queries):
            begin = time.perf_counter()
            yield query
            if number:
                seconds += time.perf_counter() - begin
                rows.extend(query)

    answers = ask(signature, model, columns, batch_size, timed)
    if rows:
        speed = answers["tokens"][rows].sum() / seconds
        text = f"The network wrote {speed:,.0f} tokens per second, {batch_size} texts at a time."
        said(run, "writing", text)
    return answers
