#!/usr/bin/env python3
"""Logits of a Llama-like checkpoint in float64 NumPy, to judge other programs by.

It shares no code with the Rust sources: it reads the safetensors header itself and computes
every step in float64. Only plain LlamaForCausalLM models without biases and without RoPE
scaling are understood; the one in shakespeare/ is such a model.

    python assets/oracle.py assets/shakespeare --tokens 512 --dump /tmp/oracle.f64
    LACUNA_ORACLE=/tmp/oracle.f64 cargo test --release -p lacuna-llm -- --ignored oracle

The text is heldout.txt, its ids are its bytes, and the tokens given are one context, however
long the model was trained for. --dump writes little-endian float64, [tokens, vocab].
--windows N prints bits per byte of the first N windows of 256 bytes: each predicts 256 bytes
from the 256 that start one earlier, as train.py does. --prune N:M keeps the N largest of M
consecutive columns, ties to the lower column, in all products of the layers.

requirements.txt: numpy
"""
import argparse
import json
from pathlib import Path

import numpy as np


def read_safetensors(path):
    """{name: float64 array}"""
    data = path.read_bytes()
    size = int.from_bytes(data[:8], "little")
    header, body = json.loads(data[8:8 + size]), data[8 + size:]
    tensors = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        begin, end = entry["data_offsets"]
        raw = body[begin:end]
        if entry["dtype"] == "BF16":
            values = (np.frombuffer(raw, "<u2").astype(np.uint32) << 16).view(np.float32)
        else:
            values = np.frombuffer(raw, {"F32": "<f4", "F16": "<f2"}[entry["dtype"]])
        tensors[name] = values.astype(np.float64).reshape(entry["shape"])
    return tensors


def prune(weight, n, m):
    rows, cols = weight.shape
    groups = weight.reshape(rows, cols // m, m)
    order = np.argsort(-np.abs(groups), axis=-1, kind="stable")
    keep = np.zeros(groups.shape, bool)
    np.put_along_axis(keep, order[..., :n], True, axis=-1)
    return (groups * keep).reshape(rows, cols)


class Model:
    def __init__(self, folder, pattern):
        self.config = json.loads((folder / "config.json").read_text())
        self.tensors = read_safetensors(folder / "model.safetensors")
        if pattern:
            for name in self.tensors:
                if name.endswith("_proj.weight"):
                    self.tensors[name] = prune(self.tensors[name], *pattern)

    def norm(self, x, name):
        mean = np.mean(x * x, axis=-1, keepdims=True)
        return x / np.sqrt(mean + self.config["rms_norm_eps"]) * self.tensors[name + ".weight"]

    def linear(self, x, name):
        return x @ self.tensors[name + ".weight"].T

    def rotate(self, x):
        """x [heads, tokens, head_dim] as complex numbers of elements i and i + half."""
        half = x.shape[-1] // 2
        frequency = self.config["rope_theta"] ** (-np.arange(half) / half)
        turn = np.exp(1j * np.outer(np.arange(x.shape[1]), frequency))
        z = (x[..., :half] + 1j * x[..., half:]) * turn
        return np.concatenate([z.real, z.imag], axis=-1)

    def attention(self, h, prefix):
        c = self.config
        dim = c["head_dim"]

        def split(name):
            return self.linear(h, f"{prefix}.{name}_proj").reshape(len(h), -1, dim).swapaxes(0, 1)

        q, k, v = self.rotate(split("q")), self.rotate(split("k")), split("v")
        share = c["num_attention_heads"] // c["num_key_value_heads"]
        k, v = np.repeat(k, share, axis=0), np.repeat(v, share, axis=0)
        scores = q @ k.swapaxes(1, 2) / np.sqrt(dim)
        scores = np.where(np.tri(len(h), dtype=bool), scores, -np.inf)
        weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
        weights /= weights.sum(axis=-1, keepdims=True)
        mixed = (weights @ v).swapaxes(0, 1).reshape(len(h), -1)
        return self.linear(mixed, f"{prefix}.o_proj")

    def logits(self, ids):
        x = self.tensors["model.embed_tokens.weight"][ids]
        for n in range(self.config["num_hidden_layers"]):
            layer = f"model.layers.{n}"
            x = x + self.attention(self.norm(x, f"{layer}.input_layernorm"), f"{layer}.self_attn")
            h = self.norm(x, f"{layer}.post_attention_layernorm")
            gate = self.linear(h, f"{layer}.mlp.gate_proj")
            h = gate / (1 + np.exp(-gate)) * self.linear(h, f"{layer}.mlp.up_proj")
            x = x + self.linear(h, f"{layer}.mlp.down_proj")
        head = "model.embed_tokens" if self.config["tie_word_embeddings"] else "lm_head"
        return self.linear(self.norm(x, "model.norm"), head)


def bits_per_byte(model, text, windows, width=256):
    bits, count = 0.0, 0
    for start in list(range(0, len(text) - 1, width))[:windows]:
        ids = text[start:start + width + 1]
        logits = model.logits(ids[:-1])
        logits -= logits.max(axis=-1, keepdims=True)
        log_p = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
        bits -= log_p[np.arange(len(ids) - 1), ids[1:]].sum() / np.log(2)
        count += len(ids) - 1
    return bits / count, count


def main():
    parser = argparse.ArgumentParser(description="Logits in float64 NumPy.")
    parser.add_argument("model", type=Path)
    parser.add_argument("--tokens", type=int, default=512)
    parser.add_argument("--dump", type=Path)
    parser.add_argument("--windows", type=int)
    parser.add_argument("--prune", metavar="N:M")
    args = parser.parse_args()
    pattern = args.prune and tuple(map(int, args.prune.split(":")))
    model = Model(args.model, pattern)
    text = np.frombuffer((args.model / "heldout.txt").read_bytes(), np.uint8).astype(int)
    if args.windows:
        print("%.6f bits per byte of %d bytes" % bits_per_byte(model, text, args.windows))
    if args.dump:
        model.logits(text[:args.tokens]).astype("<f8").tofile(args.dump)


if __name__ == "__main__":
    main()
