"""Write docs/reference/speed.md from the measured results.

    python scripts/write_speed_docs.py

A test compares the page with the data, so it cannot fall behind.
"""

import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "reference" / "speed.md"
RESULTS = ROOT / "benchmarks" / "results"

BOUNDS = {"memory": "peak memory of at most a third, or 3.2 GB"}

INTRODUCTION = """\
# What a prediction costs

Every figure was measured by the command under its table, on the machine named there, with random weights of the true layout and size where no others are named. None is promised for another machine:
run the command on yours. Made by `python scripts/write_speed_docs.py`.

## Against the published formulation

`benchmarks/published.py` is CLIPer as its authors' program computes it, written plainly from the [specification](../specs/cliper.md): whole attention maps, ten products of 4096 x 4096 matrices, the
empty prompt and the whole U-Net for every picture, in float32. Both load the same files and segment the same picture of 500 x 375 for 20 classes by turns; text rows are given to both.

"""  # noqa: E501 - a page

WITH_AMX = """
On a processor with units for whole tiles of bfloat16 (`amx_bf16`), where the first has units for it alone (`avx512_bf16`). **By an earlier version**, without what came after that commit (linear layers in place of convolutions of
single positions, strips of rows, memory kept between stages); no such processor was at hand since:

"""  # noqa: E501 - a page

STAGES = """\

What ours spends its time on (the fastest of five runs in a round, and of the rounds the median), against a floor: the larger of its operations at the measured peak of their number format and the bytes they move, unfused, at the measured bandwidth. {bandwidth}

"""  # noqa: E501 - a page

AGAIN = """\

Both sides keep up to 256 MB of freed memory for the next picture instead of asking the system for it again, as every `cliper` command does (`cliper_model.allocator`), in one heap for all its
threads. `MALLOC_TRIM_THRESHOLD_`, `MALLOC_MMAP_THRESHOLD_` or `GLIBC_TUNABLES` in the environment say otherwise, `MALLOC_ARENA_MAX` for the number of heaps.

**A picture seen before** costs only what has changed: other words the scores, other thresholds and a click the decision. Looks at pictures are kept in memory (`STATE_CACHE_MB`) and in the
[store](storage.md).

## Words

A word is encoded once, in memory and in the store, for every project on the same model; the words of a label config are read in the background from `/setup` on.

"""  # noqa: E501 - a page

BITS = """\

## Fewer bits

`DTYPE` unset means float16 on a CUDA card, as the authors ran it; for CLIPer bfloat16 on a processor with units for it (`amx_bf16`, `avx512_bf16`), except for the demo weights, which gain little;
float32 elsewhere, so for all other methods and feature sources. `/health` says which, and why (`dtype_because`). In bfloat16 only the products of CLIP's vision tower and the diffusion networks are rough: LayerNorms, what flows between CLIP's blocks, the
text tower and everything behind the networks compute in float32. On a processor that multiplies bfloat16 in AVX-512 of another maker than Intel, the autoencoder's convolutions on maps of 128 x 128 and more are done with half of
the multiplications (Winograd's F(4, 3), `cliper_model/backbones/winograd.py`); it rounds a little more, and has rows of its own below; `convolutions` in `/health` says where, and `WINOGRAD=false` does without. Matrices of the text tower stay in their safetensors file until words are encoded; of other files they are kept in float16 where it holds them exactly. What that costs was measured with the demo weights alone, on drawn scenes with all labels asked; on your own pictures `cliper evaluate`
tells, with `DTYPE` set to one and to the other:

"""  # noqa: E501 - a page

BYTES = """\

`DTYPE=int8` goes further and is never chosen by itself: the linear layers of CLIP's vision tower, all blocks but the last, multiply in 8 bits; everything else is as with bfloat16. It is for CLIPer on a processor with units for
both (`amx_int8`, `avx512_vnni` or `avx_vnni`, and `amx_bf16` or `avx512_bf16`), and refused elsewhere. Every token has a scale of its own, since CLIP's few tokens of huge length would leave ordinary ones next to nothing under one for all.
In memory the vision tower of `fast` takes 91 MiB instead of 165. What its masks lose is in the table above, with the demo weights; its time in the first ones, as `fast-int8`.
Real weights were not at hand: on yours, `cliper evaluate` tells.

"""  # noqa: E501 - a page

ENCODER = """\

## A smaller encoder

Before the U-Net sees a picture, Stable Diffusion's VAE encodes it: on a processor the longest stage of `standard` (above). `VAE=taesd` puts TAESD in its place,
a small encoder distilled into the same latent space (`madebyollin/taesd`, MIT, 9 MiB, of which the encoder half is loaded); `cliper weights fetch standard --vae taesd` gets it. One picture of 512 x 512, random weights:

"""  # noqa: E501 - a page

AGREEMENT = """\

**How well masks agree was not measured by us on real weights**, which is why it is off unless asked for: TAESD's latents are an estimate of the VAE's. The demo weights cannot tell, their latent space is another. With the weights in
a folder, one command tells, on drawn scenes or with `--root` on your own pictures (a folder as for `cliper evaluate --dataset folder`): the share of equal pixels, mIoU of both, how far latents lie apart, and seconds:

```
python -m benchmarks.agreement --weights-dir DIR
```

Masks made through it are another model version, and `/health` says which encoder is used (`vae`: `own`, `taesd`, or null where none runs). It is refused with the demo weights, which have a VAE of their own, where no Stable Diffusion
runs, and for published figures. `DTYPE` is chosen as without it.
"""  # noqa: E501 - a page

WITHIN = 1.5  # times the floor, what every stage aims at
SEPARATE_CACHES = 60.0  # gigabytes a second; who copies more does so through two caches

CARD = """\

## On a graphics card

On a CUDA card of compute capability 8.0 or later CLIPer's attention is computed by kernels of its own (`cliper_model/stages/kernels.py`, in Triton, which comes with torch's CUDA builds): maps of the diffusion model are made a tile at
a time and used there, once more for every question about other words, and never lie in memory; CLIP's attention is added up as it is computed, and all layers pass through the last block at once. Between two convolutions memory is passed
once. Pictures of a batch go through both networks together, and are resized by several threads while the card is at the diffusion model. Pixels are labelled on the card, with the result a processor has to the bit; outlines are rounded, and crumbs and holes dealt with, on the processor.

The kernels are compiled while the model is loaded, and kept on disk (`TRITON_CACHE_DIR`), so no request waits for that; it takes a C compiler, which the [GPU image](../how-to/run-in-containers.md) has. Before they are used each is run on the card and
compared with torch. Where one cannot be used, or gives something else, everything is computed by torch, which is slower; the log and `fallbacks` in `/health` say so, and why.

Other words about a picture are few numbers in many kernels, and to start them takes longer than to compute: what is asked a second time with maps of the same shapes is recorded as a CUDA graph, and started at once from then on. Four are kept,
each with its arrays and what cuBLAS takes for it; all four make room when 64 questions had no use for them, or when memory runs out. A recording that finds something else than the kernels one by one is not used, and `fallbacks` in `/health` says so. It takes torch 2.15; `CUDA_GRAPHS=false` does without.
**No graph was seen on a card yet**: what can be tested without one is (what is recorded, in what order, that nothing waits).

**No figures of a card stand here: none was at hand when this version was done.** `make prove-card` measures yours, with random weights (5 GB of disk): pictures a second, at once as many as is fastest, against the published form at one in float16; the
share of the card's measured bfloat16 peak; other words on a picture seen before; and how well masks agree with float32. It writes `benchmarks/results/*-cuda.json`.

"""  # noqa: E501 - a page

MANY = """\

## People beside large batches

Who opens a task goes ahead of batches ([many at once](many-at-once.md)). The demo profile, pictures nobody asked for before, one after the other; then the same beside large batches:

"""  # noqa: E501 - a page

SIZES = """\

## More labels, larger pictures

The demo profile. Every label is there, and every pixel gets one: the worst case.

"""


def page() -> str:
    """The whole page."""
    rows = read("proof-speed")["rows"]
    earlier = read("proof-speed-amx")["rows"] | read("proof-speed-amx-int8")["rows"]
    heads = (
        "profile",
        "ours",
        "published",
        "times faster",
        "peak memory, ours and published",
        "other words",
        "other thresholds",
    )
    parts = [
        INTRODUCTION,
        table(heads, [against(name, row) for name, row in rows.items()]),
        source("proof-speed"),
        WITH_AMX,
        table(heads, [against(*one) for one in earlier.items()]),
        source("proof-speed-amx", commit=True),
        source("proof-speed-amx-int8", commit=True),
        "\nWhat was aimed at, and what became of it in the first table:\n\n",
        table(
            ("profile", "bound", "holds"),
            [
                (f"`{name}`", BOUNDS.get(bound, bound), "yes" if holds else "**no**")
                for name, row in rows.items()
                for bound, holds in row["bounds"].items()
            ],
        ),
        STAGES.format(bandwidth=bandwidth()),
        table(
            ("profile", "stage", "seconds", "floor", "times the floor", "in all rounds"),
            [stage for name, row in rows.items() for stage in stages(name, row)],
        ),
        AGAIN,
        words(read("proof-words")),
        source("proof-words"),
        BITS,
        table(
            ("", "equal pixels", "of the worst scene", "mIoU", "in float32"),
            [bits(name, one) for name, one in read("proof-precision")["figures"].items()],
        ),
        source("proof-precision"),
        BYTES,
        ENCODER,
        encoders(read("proof-encoders")),
        source("proof-encoders"),
        AGREEMENT,
        CARD,
        MANY,
        lanes(read("proof-lanes")),
        source("proof-lanes"),
        SIZES,
        sizes(read("scaling")),
        source("scaling"),
    ]  # fmt: skip
    return "".join(parts)


def bandwidth() -> str:
    """What the peaks were, from round to round."""
    rounds = [one for row in read("proof-speed")["rows"].values() for one in row["peaks_of_rounds"]]
    memory, bits = (
        span([one[name] for one in rounds if name in one])
        for name in ("gigabytes_per_second", "bfloat16_gflops")
    )
    return (
        "Both are measured anew in every round, right before the stages: the machine is shared "
        f"with others, and from one minute to the next gave {memory} GB/s and {bits} GFLOP/s in "
        f"bfloat16. {again()}"
    )


def again() -> str:
    """What another run of the same day came to."""
    standard = read("proof-speed-again")["rows"]["standard"]
    stage, worst = max(
        ((name, max(one["above_floor_of_rounds"])) for name, one in standard["stages"].items()),
        key=lambda pair: pair[1],
    )
    over = [
        f"{name} at {one['above_floor']:.2f}"
        for name, one in standard["stages"].items()
        if one["above_floor"] > WITHIN and not standard["passed"]
    ]
    missed = f" **It missed its aim:** {', '.join(over)} in the median." if over else ""
    return (
        "In another run of `standard` "
        "([proof-speed-again](../../benchmarks/results/proof-speed-again.json)), ours was "
        f"{standard['times_faster']:.1f} times faster, and what was furthest from its floor in any "
        f"round, {stage}, at {worst:.2f} times.{missed}{by_bandwidth(standard, stage)} Times "
        "differ by as much as that from one hour to the next, and so do the peaks."
    )


def by_bandwidth(row: Mapping[str, Any], stage: str) -> str:
    """How far a stage was from its floor in rounds of either kind, where there were both."""
    copied = [one["gigabytes_per_second"] for one in row["peaks_of_rounds"]]
    rounds = list(zip(copied, row["stages"][stage]["above_floor_of_rounds"], strict=True))
    shared, separate = (
        [pair for pair in rounds if (pair[0] > SEPARATE_CACHES) == apart] for apart in (False, True)
    )
    if not shared or not separate:
        return ""
    (slow, little), (fast, much) = (
        (span([copied for copied, _ in kind]), statistics.median(above for _, above in kind))
        for kind in (shared, separate)
    )
    return (
        f" Its rounds are of two kinds: where two threads copied {slow} GB/s, {stage} was at "
        f"{little:.2f} in the median of {len(shared)}, where they copied {fast}, at {much:.2f} in "
        f"that of {len(separate)}: as if the two cores then shared no cache, so that what one of "
        "them has written reaches the other late."
    )


def span(found: Sequence[float]) -> str:
    low, high = f"{min(found):.0f}", f"{max(found):.0f}"
    return low if low == high else f"{low} to {high}"


def read(name: str) -> dict[str, Any]:
    return dict(json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8")))


def source(name: str, *, commit: bool = False) -> str:
    """Command, date and machine of a result; `commit`: and the version it was measured with."""
    told = read(name)
    machine = told["machine"]
    where = machine["gpu"] or f"{machine['cores']} cores of {machine['processor']}"
    version = f", commit {told['commit'][:7]}" if commit else ""
    return f"\n`{told['command']}`, {told['date']}, {where}{version}.\n"


def table(heads: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = ["| " + " | ".join(heads) + " |", "| " + " | ".join("---" for _ in heads) + " |"]
    lines += ["| " + " | ".join(map(str, row)) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def against(name: str, row: Mapping[str, Any]) -> tuple[str, ...]:
    ours, theirs = row["ours"], row["published"]
    return (
        f"`{name}`",
        f"{ours['seconds']:.2f} s ({ours['dtype']})",
        f"{theirs['seconds']:.2f} s",
        f"{row['times_faster']:.1f}",
        f"{ours['peak_mb'] / 1000:.1f} GB, {theirs['peak_mb'] / 1000:.1f} GB",
        f"{1000 * row['other_words_seconds']:.0f} ms",
        f"{1000 * row['other_thresholds_seconds']:.1f} ms",
    )


def stages(name: str, row: Mapping[str, Any]) -> list[tuple[str, ...]]:
    return [
        (
            f"`{name}`",
            stage,
            f"{one['seconds']:.3f}",
            f"{one['floor_seconds']:.3f}",
            f"{one['above_floor']:.2f}",
            f"{min(one['above_floor_of_rounds']):.2f} to {max(one['above_floor_of_rounds']):.2f}",
        )
        for stage, one in row["stages"].items()
    ]


def bits(name: str, one: Mapping[str, Any]) -> tuple[str, ...]:
    worst = percent(one["equal_pixels_of_the_worst_scene"])
    miou = (f"{one[key]:.2f}" for key in ("miou", "miou_float32"))
    return (name, percent(one["equal_pixels"]), worst, *miou)


def encoders(told: Mapping[str, Any]) -> str:
    """Operations and seconds of both, by number format."""
    names = {"own": "Stable Diffusion's own", "taesd": "TAESD"}
    kinds = told["encoders"]
    first = next(iter(kinds.values()))
    threads = "1 thread" if told["threads"] == 1 else f"{told['threads']} threads"
    return table(
        ("encoder", "operations", *(f"{kind}, {threads}" for kind in kinds)),
        [
            (
                title,
                f"{first[name]['gflops']:.0f} GFLOP",
                *(f"{one[name]['seconds']:.2f} s" for one in kinds.values()),
            )
            for name, title in names.items()
        ],
    )


def percent(share: float) -> str:
    return f"{100 * share:.2f} %"


def words(told: Mapping[str, Any]) -> str:
    new, memory, stored = (told[name]["seconds"] for name in ("new", "from_memory", "from_store"))
    return (
        f"{told['words']} new words with 15 sentences each take {new:.1f} s on ViT-B/16, "
        f"{1000 * memory:.1f} ms out of memory, and {1000 * stored:.0f} ms out of a SQLite file "
        "opened anew, equal to the bit.\n"
    )


def lanes(told: Mapping[str, Any]) -> str:
    kinds = (
        ("an opened task, idle", "opened_idle"),
        ("an opened task, beside batches", "opened_beside_batches"),
        ("`/health`, beside batches", "health_beside_batches"),
    )
    found = table(
        ("", "median", "p95", "p99"),
        [
            (name, *(f"{told[key][f'{which}_ms']:.0f} ms" for which in ("median", "p95", "p99")))
            for name, key in kinds
        ],
    )
    equal = told["equal"]
    return (
        f"{found}\n{equal['count']} equal requests at once cost {equal['looks']} look"
        f"{'' if equal['looks'] == 1 else 's'}.\n"
    )


def sizes(told: Mapping[str, Any]) -> str:
    """One table by labels, one by megapixels; milliseconds."""
    parts = []
    for kind, point in (("labels", "labels"), ("pixels", "megapixels")):
        steps = [step for step in told[kind][0] if step not in (point, "mib_before", "peak_mib")]
        parts.append(
            table(
                (point, *(f"{step}, ms" for step in steps), "peak memory, MiB"),
                [
                    (
                        f"{row[point]:g}",
                        *(f"{1000 * row[step]:.0f}" for step in steps),
                        row["peak_mib"],
                    )
                    for row in told[kind]
                ],
            )
        )
    slopes = ", ".join(
        f"{step} {1000 * line['per_label']:.2f} ms" for step, line in told["lines"].items()
    )
    return f"{parts[0]}\nOne more label costs: {slopes}.\n\n{parts[1]}"


def main() -> None:
    PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
