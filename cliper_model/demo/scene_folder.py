"""Scenes as a folder that a Label Studio project can be made from, with the true masks."""

import json
from colorsys import hsv_to_rgb
from pathlib import Path
from xml.sax.saxutils import quoteattr

import numpy as np
from PIL import Image

from .scenes import LABELS, Scene, make_scene, styles


def write_scene_folder(
    n: int,
    seed: int,
    out: Path,
    *,
    size_hw: tuple[int, int] = (192, 192),
    style: str = "storybook",
) -> list[Path]:
    """Write `n` scenes; returns the pictures.

    `<stem>.png`, for every visible label `<stem>__<label>.png` (0 or 255), `config.xml`
    (a labelling configuration with all labels) and `tasks.json`. Scene `i` comes from the
    generator of `(seed, i)`, so a longer folder begins like a shorter one. Raises
    `UnknownStyle` before anything is written.
    """
    if n < 0:
        raise ValueError(f"the number of scenes must not be negative, got {n}")
    styles.named(style)
    out.mkdir(parents=True, exist_ok=True)
    tasks, pictures = [], []
    for index in range(n):
        scene = make_scene(np.random.default_rng((seed, index)), size_hw=size_hw, style=style)
        stem = f"scene-{seed}-{index:04d}"
        pictures.append(out / f"{stem}.png")
        labels = _write_scene(scene, out, stem)
        tasks.append({"data": {"image": f"{stem}.png"}, "meta": {"labels": labels}})
    (out / "config.xml").write_text(label_config(), encoding="utf-8")
    (out / "tasks.json").write_text(json.dumps(tasks, indent=1) + "\n", encoding="utf-8")
    return pictures


def label_config(labels: tuple[str, ...] = LABELS) -> str:
    """A brush configuration with one colour per label."""
    lines = ["<View>", '  <Image name="image" value="$image"/>']
    lines.append('  <BrushLabels name="label" toName="image">')
    for index, label in enumerate(labels):
        lines.append(f"    <Label value={quoteattr(label)} background={quoteattr(_hex(index))}/>")
    return "\n".join([*lines, "  </BrushLabels>", "</View>", ""])


def _write_scene(scene: Scene, out: Path, stem: str) -> list[str]:
    """Write picture and masks; returns the visible labels."""
    Image.fromarray(scene.image).save(out / f"{stem}.png")
    masks = scene.masks()
    for label, mask in masks.items():
        grey = mask.astype(np.uint8) * np.uint8(255)
        Image.fromarray(grey).save(out / f"{stem}__{label}.png")
    return list(masks)


def _hex(index: int) -> str:
    """Colours far apart: golden-ratio steps around the hue circle."""
    rgb = hsv_to_rgb((index * 0.381966) % 1, 0.55 + 0.2 * (index % 3), 0.65 + 0.35 * (index % 2))
    return "#" + "".join(f"{round(255 * value):02x}" for value in rgb)
