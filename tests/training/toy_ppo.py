"""A world of 8 symbols whose best policy is known, and a table that learns to write in it."""

import itertools

import keras
import numpy as np
import tensorflow as tf

from training.ppo import PPO, Rollout

SYMBOLS = 8
STEPS_PER_EPOCH = 10


class World:
    """Answers of `length` symbols after a prompt of one position, with a score for each answer.

    The context of a symbol is the number of the symbols before it in a tree: the first has 0, and
    the one after symbol s in context c has 8 c + s + 1.

    Args:
        length: Maximum number of symbols.
        end: Symbol that ends an answer. None: all answers have the same length.
        dropout: Dropout rate of the network.
    """

    def __init__(self, length: int, end: int | None = None, dropout: float = 0.0):
        random = np.random.default_rng(0)
        self.length, self.end, self.dropout = length, end, dropout
        self.contexts = (SYMBOLS**length - 1) // (SYMBOLS - 1)
        self.reference_logits = random.normal(size=(self.contexts, SYMBOLS)).astype("float32")
        self.scores = random.normal(size=SYMBOLS**length).astype("float32")

    def network(self) -> keras.Model:
        """Begins as the reference."""
        contexts = keras.Input((None,), dtype="int32", name="contexts")
        table = keras.layers.Embedding(self.contexts, SYMBOLS, name="table")
        logits = keras.layers.Dropout(self.dropout)(table(contexts))
        values = keras.layers.Embedding(self.contexts, 1, "zeros", name="values")(contexts)
        outputs = {"logits": logits, "values": values[..., 0]}
        network = keras.Model({"contexts": contexts}, outputs)
        table.set_weights([self.reference_logits])
        return network

    def ppo(self, optimizer: keras.optimizers.Optimizer, **options) -> PPO:
        network, self.reference = self.network(), self.network()

        def write(batch, seeds):
            return self.write(network, seeds)

        def read_reference(features):
            return self.reference(features)["logits"]

        return PPO(network, read_reference, write, self.score, optimizer, **options)

    def write(self, network: keras.Model, seeds: tf.Tensor) -> Rollout:
        rows = tf.shape(seeds)[0]
        pair = tf.stack([seeds[0], seeds[-1]])
        drawn = tf.random.stateless_uniform((rows, self.length), pair)
        context, done = tf.zeros((rows,), tf.int32), tf.zeros((rows,), tf.bool)
        # The prompt has one position, whose target is none.
        contexts, targets, mask = [context], [tf.fill((rows,), -7)], [tf.zeros((rows,))]
        for number in range(self.length):
            logits = network({"contexts": context[:, None]}, training=False)["logits"][:, 0]
            sums = tf.cumsum(tf.nn.softmax(tf.cast(logits, tf.float32)), axis=1)
            passed = tf.cast(sums < drawn[:, number, None] * sums[:, -1:], tf.int32)
            symbol = tf.reduce_sum(passed, axis=1)
            contexts.append(context)
            targets.append(tf.where(done, -7, symbol))
            mask.append(tf.where(done, 0.0, 1.0))
            if self.end is not None:
                done |= symbol == self.end
            context = tf.where(done, 0, SYMBOLS * context + symbol + 1)
        columns = (tf.stack(one, axis=1) for one in (contexts, targets, mask))
        contexts, targets, mask = columns
        ended = done if self.end is not None else tf.ones_like(done)
        return Rollout({"contexts": contexts}, targets, mask, ended)

    def score(self, batch: tf.Tensor, rollout: Rollout) -> tf.Tensor:
        number = tf.zeros_like(rollout.targets[:, 0])
        for position in range(1, self.length + 1):
            number = SYMBOLS * number + tf.maximum(rollout.targets[:, position], 0)
        return tf.gather(self.scores, number)

    def log_probabilities(self, logits: np.ndarray) -> np.ndarray:
        """Returns the log-probability of each answer, by its number as `score` has it."""
        logs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        found = []
        for answer in itertools.product(range(SYMBOLS), repeat=self.length):
            context, total = 0, 0.0
            for number, symbol in enumerate(answer):
                total += logs[context, symbol]
                if symbol == self.end:  # Symbols after it are 0.
                    total = -np.inf if any(answer[number + 1 :]) else total
                    break
                context = SYMBOLS * context + symbol + 1
            found.append(total)
        return np.array(found)


def prompts(rows: int):
    """Returns batches of `rows` prompts, which say nothing."""
    return lambda start: tf.data.Dataset.from_tensors(tf.zeros((rows,))).repeat()
