"""Stable Diffusion's own encoder and TAESD at true size: operations and seconds of one picture.

    python -m benchmarks.encoders [--device cpu]

Random weights: what an encoder costs does not depend on them. What masks lose is another question,
see `benchmarks/agreement.py`. Writes `results/proof-encoders.json`.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL

from cliper_model.backbones import taesd
from cliper_model.backbones.diffusion import Latent, posterior_mean

from . import floors, record

SIDE = 512  # pixels


def main() -> int:
    parser = argparse.ArgumentParser(description="What both encoders cost at true size.")
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    dtypes = (torch.float32, torch.bfloat16)
    content = {
        "weights": "random, true layout and size",
        "threads": torch.get_num_threads(),
        "encoders": {
            str(dtype).removeprefix("torch."): cost(dtype, args.device) for dtype in dtypes
        },
    }
    print(json.dumps(content, indent=1))
    print(record.write("proof-encoders", content))
    return 0


def cost(dtype: torch.dtype, device: str) -> dict[str, Any]:
    """Per encoder: billions of operations, gigabytes moved, seconds of the fastest run."""
    told = {}
    for name, (vae, latent) in both(dtype, device).items():
        seeded = torch.Generator().manual_seed(0)
        pixels = 2 * torch.rand(1, 3, SIDE, SIDE, generator=seeded) - 1
        pixels = pixels.to(device, dtype)

        def encode(vae: Any = vae, latent: Latent = latent, pixels: Any = pixels) -> Any:
            with torch.no_grad():
                return latent(vae, pixels)

        done = floors.work_of(encode)
        told[name] = {
            "gflops": round(sum(done.flops.values()) / 1e9, 1),
            "gigabytes": round(done.bytes / 1e9, 2),
            "seconds": round(floors.fastest(encode, device), 3),
        }
    return told


def both(dtype: torch.dtype, device: str) -> dict[str, tuple[Any, Latent]]:
    """As they are loaded: kernels with channels last, no decoder."""
    from tests.weights import synthesise

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        own = AutoencoderKL.from_config(synthesise.VAE)
    own.decoder = own.post_quant_conv = None
    own.eval().requires_grad_(False)
    own.encoder.to(device, dtype, memory_format=torch.channels_last)
    own.quant_conv.to(device, dtype, memory_format=torch.channels_last)
    with tempfile.TemporaryDirectory() as folder:
        written = synthesise.write_taesd(Path(folder), small=False)
        small = taesd.load_taesd(written, dtype=dtype, device=device)
    return {"own": (own, posterior_mean), "taesd": (small, taesd.latent)}


if __name__ == "__main__":
    sys.exit(main())
