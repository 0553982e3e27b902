"""Recomputes thresholds with numpy from the activations that `lacuna calibrate --dump` wrote.

    lacuna calibrate MODEL --text TEXT -o STATS --dump DUMP
    lacuna thresholds STATS --method chess --sparsity 0.5 --attention -o T
    python benches/thresholds.py STATS DUMP T…

Needs numpy. Every table of STATS and every threshold of each T is compared; the exit code is 1
where one is off. Up to 2^24 numbers a table the quantiles are exact: a table may differ by the
rounding of the factors alone.
"""

import json
import struct
import sys
from pathlib import Path

import numpy as np

RANKS = 1000
ROUNDING = 1e-6


class Safetensors:
    """Tensors of F32 and the text entries of one file."""

    def __init__(self, path):
        self.bytes = np.memmap(path, np.uint8, "r")
        (size,) = struct.unpack("<Q", self.bytes[:8].tobytes())
        self.start = 8 + size
        self.entries = json.loads(self.bytes[8:self.start].tobytes())
        self.metadata = self.entries.pop("__metadata__", {})

    def __getitem__(self, name):
        entry = self.entries[name]
        assert entry["dtype"] == "F32", name
        a, b = entry["data_offsets"]
        return self.bytes[self.start + a:self.start + b].view(np.float32).reshape(entry["shape"])


def table(magnitudes):
    """The least number that at least k / 1000 of all do not exceed, for every k."""
    ordered = np.sort(magnitudes, axis=None)
    ranks = -(-np.arange(RANKS + 1) * ordered.size // RANKS)
    return ordered[np.maximum(ranks, 1) - 1]


def at(table, share):
    return table[round(share * RANKS)] if share > 0 else np.float32(0)


worst, checked = {}, 0


def compare(what, got, expected):
    global checked
    checked += np.size(got)
    with np.errstate(invalid="ignore"):
        off = np.abs(got - expected) / np.maximum(np.abs(expected), 1e-30)
    off = np.where(np.equal(got, expected), 0, off).max()
    worst[what] = max(worst.get(what, 0), off)


def main(stats, dump, files):
    stats = Safetensors(stats)
    chosen = [Safetensors(file) for file in files]
    inputs = [json.loads(text)["modules"] for key, text in stats.metadata.items()
              if key.startswith("lacuna_statistics.") and not key.endswith(".version")]
    for path in sorted(Path(dump).glob("layer-*.safetensors")):
        layer = Safetensors(path)
        tables = {}
        for modules in inputs:
            name = f"{modules[0]}.input"
            if name in layer.entries:
                own = table(np.abs(layer[name]))
                compare("quantiles of inputs", stats[f"{modules[0]}.quantiles"], own)
                tables.update({module: (own, np.float32(1)) for module in modules})
        (mlp,) = (n.removesuffix(".gate") for n in layer.entries if n.endswith(".mlp.gate"))
        up = layer[f"{mlp}.up"].astype(np.float64)
        scales = {
            "cats": np.float32(1),
            "chess": np.abs(up).mean(0).astype(np.float32),
            "chess2": np.sqrt((up * up).mean(0).astype(np.float32)),
        }
        scales["chess-down"] = scales["chess"] * stats[f"{mlp}.down_norm"]
        compare("E|u|", stats[f"{mlp}.up_mean_abs"], scales["chess"])
        compare("E[u^2]", stats[f"{mlp}.up_mean_square"], (up * up).mean(0))
        gates = np.abs(layer[f"{mlp}.gate"])
        for method, scale in scales.items():
            own = table(gates * scale)
            compare(f"quantiles of {method}", stats[f"{mlp}.{method}"], own)
            tables[mlp, method] = own, scale
        for file in chosen:
            how = json.loads(file.metadata["lacuna.thresholds"])
            for name in file.entries:
                module = name.removesuffix(".thresholds")
                own = tables.get(module) or tables.get((module, how["method"]))
                if own is None or how.get("allocate") == "greedy":
                    continue
                with np.errstate(divide="ignore"):
                    expected = at(own[0], how["sparsity"]) / own[1]
                expected = np.where(own[1] == 0, np.float32(np.inf), expected)
                compare(f"thresholds of {how['method']}", file[name], expected)
    for what, off in worst.items():
        print(f"{what}: off by {off:.1e} at most")
    print(f"{checked} numbers compared")
    return int(checked == 0 or max(worst.values()) > ROUNDING)


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1], sys.argv[2], sys.argv[3:]))
