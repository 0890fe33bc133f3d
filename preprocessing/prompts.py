"""Prompts with worked examples before them, with operations of TensorFlow."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import tensorflow as tf

from preprocessing.byte_tokens import PADDING, Tokens

PLAIN = "{text}{label}"
"""The template of prompts that are encoded as they are."""


@dataclass(frozen=True)
class Prompts:
    """Writes worked examples and prompts by a template, and encodes both.

    Examples and prompts are encoded one by one. If text and label are followed by white space in
    the template, that gives the tokens of all together where white space always begins a token:
    that behind a label belongs to the next example, and that before a label to the label. By the
    rule of Llama 3 line feeds belong to the punctuation before them; there a label should follow a
    space, and not end in punctuation.

    Reference:
        Brown et al., Language Models are Few-Shot Learners, 2020, section 2 and figure 2.1.
        https://arxiv.org/abs/2005.14165

    Args:
        tokens: The tokenizer.
        template: An example, with {text} before {label}.
        examples: Text and label of each worked example.

    Example:
        >>> from preprocessing.byte_tokens import Bytes
        >>> some = Prompts(Bytes(), "Q: {text} A: {label}; ", [("1 + 1", "2")])
        >>> bytes(some.prefix[1:]), bytes(some.encode(tf.constant(["2 + 2"])).numpy()[0].tolist())
        (b'Q: 1 + 1 A: 2', b'; Q: 2 + 2 A:')
    """

    tokens: Tokens
    template: str = PLAIN
    examples: Sequence[tuple[str, str]] = ()

    @cached_property
    def prefix(self) -> tuple[int, ...]:
        """Tokens before each prompt, with that which begins a text; empty without examples."""
        return tuple(id for ids in self._pieces for id in ids)

    @property
    def sizes(self) -> list[int]:
        """Number of tokens of each example; the first one has that which begins a text, too."""
        return [len(ids) for ids in self._pieces]

    @cached_property
    def _pieces(self) -> list[list[int]]:
        if not self.examples:
            return []
        head, middle, space, tail = self._parts
        texts = [f"{head}{text}{middle}{space}{label}" for text, label in self.examples]
        rows = self.tokens.encode(tf.constant([texts[0], *(tail + text for text in texts[1:])]))
        pieces = [row[row >= 0].tolist() for row in rows.numpy()]
        if self.tokens.begin_id is not None:
            pieces[0].insert(0, self.tokens.begin_id)
        return pieces

    @cached_property
    def _parts(self) -> tuple[str, str, str, str]:
        """The template before the text, from there to the label, white space at its end, and the
        rest."""
        head, rest = self.template.split("{text}")
        between, tail = rest.split("{label}")
        middle = between.rstrip()
        return head, middle, between[len(middle) :], tail

    @property
    def stop(self) -> str:
        """Where an answer ends; empty if nothing follows it."""
        return self._parts[3]

    def written(self, text: str) -> str:
        """Returns the examples and a prompt as they are read."""
        ids = [*self.prefix, *self.encode(tf.constant([text])).numpy()[0]]
        return self.tokens.decode(tf.constant([ids])).numpy()[0].decode()

    def encode(self, texts: tf.Tensor) -> tf.Tensor:
        """Encodes texts `(n,)` up to their answers, int32 `(n, tokens)`, -1 in padding."""
        head, middle, _, tail = self._parts
        before = tail + head if self.examples else head
        return self.tokens.encode(tf.strings.join([before, texts, middle]))

    def encode_answers(self, answers: tf.Tensor) -> tf.Tensor:
        """Encodes answers `(n,)`, int32 `(n, tokens)`, at least one column, -1 in padding."""
        ids = self.tokens.encode(tf.strings.join([self._parts[2], answers]))
        missing = tf.maximum(1 - tf.shape(ids)[1], 0)
        return tf.pad(ids, [[0, 0], [0, missing]], constant_values=PADDING)

    def with_answers(self, answers: tf.Tensor, prompt: tf.Tensor) -> dict[str, tf.Tensor]:
        """Returns what `models.writing.answering` reads of prompts with the same answers each.

        Args:
            answers: Strings `(answers,)`.
            prompt: Strings `(n,)`.
        """
        ids = self.encode_answers(answers)[None]
        rows = tf.shape(prompt)[0]
        return {"token_ids": self.encode(prompt), "answer_ids": tf.repeat(ids, rows, axis=0)}

    def to_score(
        self, most: int, prompt: tf.Tensor, text: tf.Tensor
    ) -> tuple[dict[str, tf.Tensor], dict[str, tf.Tensor]]:
        """Returns what `models.writing.answering` reads of prompts with an answer each.

        Args:
            most: Maximum number of tokens of an answer; more are an error that names the rows.
            prompt: Strings `(n,)`.
            text: Strings `(n,)`.

        Returns:
            `token_ids` and `answer_ids`, and of each answer the numbers `tokens` and `bytes`, int32
            `(n,)`.
        """
        ids = self.encode_answers(text)
        sizes = tf.reduce_sum(tf.cast(ids >= 0, tf.int32), axis=1)
        facts = [f"`text` must have at most {most} tokens. Rows with more:", tf.where(sizes > most)]
        check = tf.debugging.Assert(tf.reduce_all(sizes <= most), facts, 1000)
        with tf.control_dependencies([check]):
            features = {"token_ids": self.encode(prompt), "answer_ids": ids[:, None]}
        return features, {"tokens": sizes, "bytes": tf.strings.length(text)}

    def decode(self, token_ids: tf.Tensor, num_bytes: tf.Tensor | None = None) -> tf.Tensor:
        """Decodes answers as the tokenizer does; they end where the template says."""
        texts = self.tokens.decode(token_ids, num_bytes)
        if not self.stop:
            return texts
        parts = tf.strings.split(texts, self.stop, maxsplit=1)
        return tf.strings.strip(parts[:, :1].to_tensor("", shape=(None, 1))[:, 0])
