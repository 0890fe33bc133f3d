"""Counts and latencies of requests, in the text format that Prometheus reads."""

import bisect
import threading
from collections import defaultdict

# Upper edges in microseconds: 10 times 1.8, 1.8^2, ..., as TensorFlow Serving has them.
EDGES = tuple(10 * 1.8**power for power in range(33))


class Metrics:
    """TensorFlow Serving's `request_count` and `request_latency`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: dict[tuple[str, str], int] = defaultdict(int)
        self._latencies: dict[tuple[str, str, str], list[int]] = {}
        self._sums: dict[tuple[str, str, str], float] = defaultdict(float)

    def record(self, model: str, api: str, entrypoint: str, status: str, seconds: float) -> None:
        """Counts one request, and its latency if it was answered.

        Args:
            model: Name of the model.
            api: `Predict`, `Classify`, `Regress` or `MultiInference`.
            entrypoint: `GRPC` or `REST`.
            status: `OK` or the name of an error.
            seconds: From the request's arrival to its answer.
        """
        key = model, api, entrypoint
        micros = seconds * 1e6
        with self._lock:
            self._counts[model, status] += 1
            if status != "OK":
                return
            if key not in self._latencies:
                self._latencies[key] = [0] * (len(EDGES) + 1)
            self._latencies[key][bisect.bisect_left(EDGES, micros)] += 1
            self._sums[key] += micros

    def text(self) -> str:
        """Returns all of it as a Prometheus server scrapes it."""
        name = ":tensorflow:serving:request_count"
        lines = [f"# TYPE {name} counter"]
        with self._lock:
            for (model, status), count in sorted(self._counts.items()):
                lines.append(f'{name}{{model_name="{_escaped(model)}",status="{status}"}} {count}')
            name = ":tensorflow:serving:request_latency"
            lines.append(f"# TYPE {name} histogram")
            for key, buckets in sorted(self._latencies.items()):
                model, api, entrypoint = key
                labels = f'model_name="{_escaped(model)}",API="{api}",entrypoint="{entrypoint}"'
                total = 0
                for edge, count in zip((*EDGES, float("inf")), buckets, strict=True):
                    total += count
                    bound = "+Inf" if edge == float("inf") else f"{edge:g}"
                    lines.append(f'{name}_bucket{{{labels},le="{bound}"}} {total}')
                lines.append(f"{name}_sum{{{labels}}} {self._sums[key]:g}")
                lines.append(f"{name}_count{{{labels}}} {total}")
        return "\n".join(lines) + "\n"


def _escaped(label: str) -> str:
    return label.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
