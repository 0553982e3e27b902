#!/usr/bin/env python3
"""Logits that lacuna wrote, beside the same computed by PyTorch's own float32 operations.

    head -c 256 assets/shakespeare/heldout.txt | python3 -c \\
        'import array, sys; array.array("I", list(sys.stdin.buffer.read())).tofile(sys.stdout.buffer)' > T.u32
    lacuna eval assets/shakespeare --tokens T.u32 --ctx 256 --kv f32 \\
        --dump-logits L.safetensors --positions 0,1,5,50,200,255
    python assets/compare_torch.py assets/shakespeare L.safetensors T.u32 \\
        --positions 0,1,5,50,200,255

The tokens are little-endian 32-bit ids, here the bytes of a text, and all of them are one window.
Give --kv f32: keeping keys and values in f16 alone moves logits by more than 1e-3. Exit status 1
says that a logit differs by more than --tolerance. Only plain LlamaForCausalLM folders without
biases and without RoPE scaling are understood. oracle.py is the stricter judge, in float64; this
script asks whether a second, widely used implementation agrees.

requirements.txt: torch>=2.4, numpy, safetensors>=0.4
"""
import argparse
import json
import sys
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file


class Model:
    def __init__(self, folder):
        self.config = json.loads((folder / "config.json").read_text())
        check(self.config)
        files = sorted(folder.glob("*.safetensors"))
        tensors = {name: tensor for file in files for name, tensor in load_file(file).items()}
        self.tensors = {name: tensor.float() for name, tensor in tensors.items()}

    def norm(self, x, name):
        scale = torch.rsqrt(x.square().mean(-1, keepdim=True) + self.config["rms_norm_eps"])
        return x * scale * self.tensors[name + ".weight"]

    def linear(self, x, name):
        return F.linear(x, self.tensors[name + ".weight"])

    def rotate(self, x):
        """x [heads, tokens, head_dim]; elements i and i + half turn together."""
        half = x.shape[-1] // 2
        frequency = self.config["rope_theta"] ** (-torch.arange(half).double() / half)
        angle = torch.outer(torch.arange(x.shape[1]).double(), frequency)
        cos, sin = angle.cos().float(), angle.sin().float()
        a, b = x[..., :half], x[..., half:]
        return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1)

    def attention(self, h, prefix):
        heads, shared = self.config["num_attention_heads"], self.config["num_key_value_heads"]

        def split(name, count):
            return self.linear(h, f"{prefix}.{name}_proj").view(len(h), count, -1).transpose(0, 1)

        q, k, v = split("q", heads), split("k", shared), split("v", shared)
        q, k = self.rotate(q), self.rotate(k)
        k, v = (x.repeat_interleave(heads // shared, dim=0) for x in (k, v))
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.linear(mixed.transpose(0, 1).reshape(len(h), -1), f"{prefix}.o_proj")

    def logits(self, ids):
        x = F.embedding(ids, self.tensors["model.embed_tokens.weight"])
        for n in range(self.config["num_hidden_layers"]):
            layer = f"model.layers.{n}"
            x = x + self.attention(self.norm(x, f"{layer}.input_layernorm"), f"{layer}.self_attn")
            h = self.norm(x, f"{layer}.post_attention_layernorm")
            gated = F.silu(self.linear(h, f"{layer}.mlp.gate_proj"))
            gated = gated * self.linear(h, f"{layer}.mlp.up_proj")
            x = x + self.linear(gated, f"{layer}.mlp.down_proj")
        head = "model.embed_tokens" if self.config.get("tie_word_embeddings") else "lm_head"
        return self.linear(self.norm(x, "model.norm"), head)


def check(config):
    """Refuses what would be computed wrongly rather than not at all."""
    if "LlamaForCausalLM" not in config.get("architectures", []):
        sys.exit("only LlamaForCausalLM is understood")
    for key in ("rope_scaling", "attention_bias", "mlp_bias"):
        if config.get(key):
            sys.exit(f"{key} is not understood")


def main():
    parser = argparse.ArgumentParser(description="Compare lacuna's logits with PyTorch's.")
    parser.add_argument("model", type=Path, metavar="MODEL_DIR")
    parser.add_argument("logits", type=Path, metavar="LOGITS.safetensors")
    parser.add_argument("tokens", type=Path, metavar="TOKENS.u32")
    parser.add_argument("--positions", required=True, metavar="I,J,…",
                        help="as given to lacuna eval: the rows of LOGITS")
    parser.add_argument("--tolerance", type=float, default=1e-3)
    args = parser.parse_args()

    positions = [int(position) for position in args.positions.split(",")]
    ids = torch.from_numpy(np.fromfile(args.tokens, "<u4").astype(np.int64))
    found = load_file(args.logits)["logits"].float()
    if len(found) != len(positions):
        sys.exit(f"{len(found)} rows of logits for {len(positions)} positions")
    with torch.no_grad():
        expected = Model(args.model).logits(ids)[positions]

    print(f"torch {torch.__version__}, float32, {len(ids)} tokens, {found.shape[1]} logits each")
    print("position   max |Δlogit|   largest logit   same best token")
    difference = (found - expected).abs().amax(dim=-1)
    for row, position in enumerate(positions):
        same = "yes" if found[row].argmax() == expected[row].argmax() else "NO"
        largest = expected[row].abs().max()
        print(f"{position:8}   {difference[row]:12.2e}   {largest:13.3f}   {same:>15}")
    worst = difference.max().item()
    # A NaN compares as false, and so fails.
    right = worst <= args.tolerance
    verdict = "within" if right else "ABOVE"
    print(f"overall {worst:.2e}, {verdict} the tolerance of {args.tolerance:g}")
    sys.exit(0 if right else 1)


if __name__ == "__main__":
    main()
