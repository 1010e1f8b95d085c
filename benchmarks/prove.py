"""Every full-size proof, one after the other: `make prove`.

Each is a program of its own that writes `results/proof-*.json` with commit and date and
ends 0 when what it proves holds.
"""

import argparse
import subprocess
import sys

PROOFS = (
    ("formats", "every region format: 10,000 masks there and back, brush code equal to the SDK's"),
    (
        "fuzz",
        "100,000 hostile requests, configs, masks and pictures: nothing breaks, memory is bounded",
    ),
    ("demo_accuracy", "the demo weights' figures on held-out scenes"),
    ("demo_verify", "every figure of the demo weights' card, recomputed"),
    ("demo_repeat", "a second training of the demo weights from the same seed"),
    ("demo_chain", "the whole chain through a real Label Studio"),
    ("responsiveness", "health and setup while a batch is predicted"),
    (
        "lanes",
        "an opened task beside large batches, 50 equal requests, health meanwhile",
    ),
    ("soak", "half an hour of everything at once: answers, memory, health"),
    ("demo_predict", "an opened task with the demo weights, and how much of it is the model"),
    ("playground", "from a click to masks in a browser"),
    ("whole_project", "a project of 2,000 tasks under kills and restarts; speed, memory, estimate"),
    ("kills_everything", "the service killed 100 times: nothing lost, nothing doubled"),
    ("data_sets", "data sets on Ray: once each under kills, overhead, memory, the same masks"),
    ("replicas", "500 tasks through two replicas and a balancer, both replicas killed in turn"),
    ("many_tasks", "memory of a run, flat from 100 to 10,000 tasks"),
    ("learning", "what corrections teach, under one shift at a time, five seeds each"),
    ("choosing", "how many pictures must be corrected when they are chosen"),
    ("submits", "what a learning run costs annotators who submit"),
    ("large_pictures", "a picture of 108 megapixels in tiles, its memory and its masks"),
    ("clicks", "clicks and boxes through a real Label Studio, in time and right"),
    ("editor_load", "large pictures with ten labels in a real editor"),
    ("region_counts", "about as many regions as there are things"),
    ("words", "20 new words at true size, and the same from memory and from the store"),
    ("speed", "ours against the published formulation, paired, and against the hardware"),
    ("precision", "what masks lose in fewer bits"),
    ("true_size", "ViT-B/16 and Stable Diffusion 2.1 at true size"),
    ("true_methods", "every method at true size"),
    ("student", "a student: trained, killed, resumed, measured against its teacher"),
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("only", nargs="*", help="names of proofs; without any, all of them")
    chosen = parser.parse_args().only
    unknown = set(chosen) - {name for name, _ in PROOFS}
    if unknown:
        parser.error(f"unknown proof {', '.join(sorted(unknown))}")
    failed = []
    for name, what in PROOFS:
        if chosen and name not in chosen:
            continue
        print(f"== {name}: {what}", flush=True)
        if subprocess.run([sys.executable, "-m", f"benchmarks.{name}"]).returncode:
            failed.append(name)
    print(f"failed: {', '.join(failed)}" if failed else "every proof holds")
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
