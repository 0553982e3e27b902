#!/usr/bin/env python3
"""Weights written by the packages that define their layouts, read back by lacuna: every float the same.

    pip install "compressed-tensors==0.14.0" "transformers>=4.55,<5" torch safetensors numpy
    pip install accelerate psutil sentencepiece
    pip install --no-deps auto-gptq && pip download --no-deps --no-binary :all: autoawq
    python assets/foreign.py target/release/lacuna

and again where the current compressed-tensors is installed: 0.14 packs words otherwise than 0.20, and
0.20 has no sparse layouts. Packages that are not there are named and left out. auto-gptq and autoawq
are asked for their packing alone, past their own imports, which want a GPU and much else; say where
the sources of autoawq are unpacked with --autoawq DIR.

Exit status 1 says that a float differs, or that lacuna refused what it should read.
"""
import argparse
import importlib
import importlib.metadata
import importlib.util
import json
import subprocess
import sys
import tempfile
import types
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import load_file as load_numpy
from safetensors.torch import load_file, save_file

ROWS, COLS = 64, 256


def codes_of(bits, group, seed, rows=ROWS, cols=COLS):
    """Codes, scales and zero points [rows, groups] that any packer keeps as they are."""
    random = np.random.default_rng(seed)
    groups = -(-cols // group)
    codes = random.integers(0, 2**bits, (rows, cols))
    # Powers of two times small odd numbers: scale · code is exact in f16, so rounding it finds the code.
    scales = random.integers(1, 16, (rows, groups)) / 2.0**9
    zeros = random.integers(1, 2**bits, (rows, groups))
    return codes, scales.astype(np.float32), zeros


def decoded(codes, scales, zeros, group):
    column = np.arange(codes.shape[1]) // group
    return (scales[:, column] * (codes - zeros[:, column])).astype(np.float32)


class Judge:
    def __init__(self, lacuna):
        self.lacuna, self.right, self.wrong = lacuna, 0, []

    def run(self, *arguments):
        done = subprocess.run([self.lacuna, *map(str, arguments)], capture_output=True, text=True)
        return done.returncode, done.stderr.strip()

    def count(self, what, problem):
        if problem:
            self.wrong.append(f"{what}: {problem}")
        else:
            self.right += 1

    def reads(self, what, tensors, config, expected):
        """`lacuna unpack` makes `expected` of the module P that `tensors` are of."""
        with tempfile.TemporaryDirectory() as folder:
            folder = Path(folder)
            save_file({f"P.{k}": v.contiguous() for k, v in tensors.items()}, folder / "model.safetensors")
            (folder / "config.json").write_text(json.dumps({"quantization_config": config}))
            code, error = self.run("unpack", folder / "model.safetensors", "-o", folder / "out.safetensors")
            if code:
                return self.count(what, error)
            got = load_numpy(folder / "out.safetensors")["P.weight"]
        same = got.shape == expected.shape and (got.view(np.uint32) == expected.view(np.uint32)).all()
        # A zero may have either sign: codes have one zero.
        same = same or (got.shape == expected.shape and (got == expected).all())
        self.count(what, None if same else f"{np.sum(got != expected)} of {expected.size} floats differ")

    def refuses(self, what, tensors):
        with tempfile.TemporaryDirectory() as folder:
            folder = Path(folder)
            save_file({f"P.{k}": v.contiguous() for k, v in tensors.items()}, folder / "model.safetensors")
            code, error = self.run("unpack", folder / "model.safetensors", "-o", folder / "out.safetensors")
            self.count(what, None if code == 4 else f"exit status {code}: {error}")


def past_imports(package, folder, *inner):
    """Makes a package's modules importable without running its own __init__."""
    for name in (package, *(f"{package}.{i}" for i in inner)):
        module = types.ModuleType(name)
        module.__path__ = [str(folder.joinpath(*name.split(".")))]
        sys.modules[name] = module


def linear_of(weight, dtype):
    linear = torch.nn.Linear(weight.shape[1], weight.shape[0], bias=False)
    linear.weight.data = torch.from_numpy(weight).to(dtype)
    return linear


def gptq(judge):
    spec = importlib.util.find_spec("auto_gptq")
    if spec is None:
        return None
    past_imports("auto_gptq", Path(spec.origin).parent.parent, "nn_modules", "nn_modules.qlinear")
    packer = importlib.import_module("auto_gptq.nn_modules.qlinear.qlinear_cuda_old").QuantLinear
    for bits in (2, 3, 4, 8):
        for group in (32, 64, 128, -1):
            length = COLS if group < 0 else group
            codes, scales, zeros = codes_of(bits, length, bits * 1000 + length)
            weight = decoded(codes, scales, zeros, length)
            layer = packer(bits, group, COLS, ROWS, False, weight_dtype=torch.float32)
            # Packed in f32, since the packer divides by scales: they are halves all the same.
            layer.pack(linear_of(weight, torch.float32), torch.from_numpy(scales),
                       torch.from_numpy(zeros.astype(np.float32)), None)
            tensors = {"qweight": layer.qweight, "qzeros": layer.qzeros, "scales": layer.scales.half(),
                       "g_idx": layer.g_idx}
            config = {"quant_method": "gptq", "bits": bits, "group_size": group, "sym": False}
            judge.reads(f"auto-gptq {bits} bits, group {group}", tensors, config, weight)
    return importlib.metadata.version("auto-gptq")


def awq(judge, folder):
    if folder is None:
        return None
    past_imports("awq", folder, "modules", "modules.linear", "utils")
    packer = importlib.import_module("awq.modules.linear.gemm").WQLinear_GEMM
    for group in (32, 64, 128):
        codes, scales, zeros = codes_of(4, group, 4000 + group)
        weight = decoded(codes, scales, zeros, group)
        layer = packer.from_linear(linear_of(weight, torch.float32), 4, group,
                                   scales=torch.from_numpy(scales.T.copy()), zeros=torch.from_numpy(zeros.T.copy()))
        tensors = {"qweight": layer.qweight, "qzeros": layer.qzeros, "scales": layer.scales}
        config = {"quant_method": "awq", "bits": 4, "group_size": group, "version": "gemm", "zero_point": True}
        judge.reads(f"autoawq group {group}", tensors, config, weight)
    return folder.name


def compressed_tensors(judge):
    try:
        version = importlib.metadata.version("compressed-tensors")
    except importlib.metadata.PackageNotFoundError:
        return None
    from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme

    old = version < "0.15"
    path = "quantized_compressors.pack_quantized" if old else "pack_quantized.base"
    packer = importlib.import_module(f"compressed_tensors.compressors.{path}").PackedQuantizationCompressor

    def scheme_of(bits, group, symmetric):
        strategy = {"strategy": "group", "group_size": group} if group > 0 else {"strategy": "channel"}
        args = QuantizationArgs(num_bits=bits, symmetric=symmetric, **strategy)
        return QuantizationScheme(targets=["Linear"], weights=args)

    def compress(tensors, scheme):
        if not old:
            return packer.compress(tensors, scheme)
        made = object.__new__(packer).compress_weight(
            tensors["weight"], tensors["weight_scale"], scheme.weights, tensors.get("weight_zero_point"))
        return {"weight_scale": tensors["weight_scale"], **made}

    def decompress(tensors, scheme):
        if old:
            return object.__new__(packer).decompress_weight(dict(tensors), scheme.weights)
        return packer.decompress(dict(tensors), scheme)["weight"]

    def config_of(scheme):
        groups = {"group_0": {"targets": ["Linear"], "weights": json.loads(scheme.weights.model_dump_json())}}
        return {"quant_method": "compressed-tensors", "format": "pack-quantized", "version": version,
                "config_groups": groups}

    # 0.14 has no tables for other bits than these.
    for bits in (3, 4, 8) if old else (2, 3, 4, 5, 6, 7, 8):
        for group, symmetric in ((32, True), (64, False), (128, True), (-1, False)):
            length = COLS if group < 0 else group
            codes, scales, zeros = codes_of(bits, length, bits * 1000 + length + 7)
            middle = 2 ** (bits - 1)
            zeros = np.full_like(zeros, middle) if symmetric else zeros
            weight = decoded(codes, scales, zeros, length)
            tensors = {"weight": torch.from_numpy(weight), "weight_scale": torch.from_numpy(scales)}
            if not symmetric:
                tensors["weight_zero_point"] = torch.from_numpy((zeros - middle).astype(np.int8))
            scheme = scheme_of(bits, group, symmetric)
            packed = compress(tensors, scheme)
            packed["weight_scale"] = packed["weight_scale"].half()
            what = f"compressed-tensors {bits} bits, group {group}, {'symmetric' if symmetric else 'zero points'}"
            judge.reads(what, packed, config_of(scheme), weight)
            if not old:
                writes(judge, what, bits, group, symmetric, decompress, scheme)
    if old:
        sparse(judge)
    return version


def writes(judge, what, bits, group, symmetric, decompress, scheme):
    """What `lacuna unpack --as pack-quantized` writes is to the package what it is to lacuna."""
    shape = "row" if group < 0 else f"g{group}"
    form = f"w{bits}{shape}{'-sym' if symmetric else ''}"
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        dense, container, packed, plain = (folder / f"{n}.safetensors" for n in ("d", "c", "p", "f"))
        weight = torch.from_numpy(np.random.default_rng(bits).standard_normal((ROWS, COLS), np.float32))
        save_file({"P.weight": weight}, dense)
        for command in (("compress", dense, "-o", container, "--format", form),
                        ("unpack", container, "-o", packed, "--as", "pack-quantized"),
                        ("unpack", container, "-o", plain)):
            code, error = judge.run(*command)
            if code:
                return judge.count(f"{what}, written as {form}", error)
        tensors = {k.removeprefix("P."): v for k, v in load_file(packed).items()}
        tensors["weight_scale"] = tensors["weight_scale"].float()
        got = decompress(tensors, scheme).float().numpy()
        expected = load_numpy(plain)["P.weight"]
        problem = None if (got == expected).all() else f"{np.sum(got != expected)} floats differ"
        judge.count(f"{what}, written as {form}", problem)


def sparse(judge):
    from compressed_tensors.compressors.sparse_compressors import sparse_24_bitmask, sparse_bitmask

    random = np.random.default_rng(24)
    config = {"quant_method": "compressed-tensors", "format": "dense"}
    for dtype in (torch.float16, torch.bfloat16, torch.float32):
        dense = torch.from_numpy(random.standard_normal((ROWS, COLS), np.float32)).to(dtype)
        two_of_four = dense.clone()
        drop = torch.argsort(dense.abs().float().reshape(-1, 4), dim=1)[:, :2]
        two_of_four.reshape(-1, 4).scatter_(1, drop, 0)
        made = sparse_24_bitmask.Sparse24BitMaskTensor.from_dense(two_of_four, "2:4").dict("P")
        tensors = {k.removeprefix("P."): v for k, v in made.items()}
        judge.reads(f"sparse-24-bitmask {dtype}", tensors, config, two_of_four.float().numpy())
        any_share = dense * torch.from_numpy(random.random((ROWS, COLS)) < 0.3)
        made = sparse_bitmask.BitmaskTensor.from_dense(any_share.to(dtype)).dict("P")
        tensors = {k.removeprefix("P."): v for k, v in made.items()}
        judge.reads(f"sparse-bitmask {dtype}", tensors, config, any_share.float().numpy())
    marlin = {"weight_packed": torch.zeros(16, 512, dtype=torch.int32), "meta": torch.zeros(16, 512, dtype=torch.int16),
              "scale_packed": torch.ones(4, 256, dtype=torch.float16)}
    judge.refuses("marlin-24", marlin)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("lacuna", help="the program")
    parser.add_argument("--autoawq", type=Path, metavar="DIR", help="the unpacked sources of autoawq")
    arguments = parser.parse_args()
    judge = Judge(arguments.lacuna)
    for name, version in (("compressed-tensors", compressed_tensors(judge)), ("auto-gptq", gptq(judge)),
                          ("autoawq", awq(judge, arguments.autoawq))):
        print(f"{name}: {version or 'not here, left out'}")
    for problem in judge.wrong:
        print(f"WRONG {problem}")
    print(f"{judge.right} right, {len(judge.wrong)} wrong")
    sys.exit(1 if judge.wrong or not judge.right else 0)


if __name__ == "__main__":
    main()
