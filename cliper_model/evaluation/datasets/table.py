"""Data set name -> where its pictures and masks are; add a line for a new one."""

from collections.abc import Mapping
from types import MappingProxyType

from . import (
    ade20k,
    ade_full,
    cityscapes,
    coco_object,
    coco_stuff,
    context,
    context459,
    folder,
    isaid,
    loveda,
    vaihingen,
    voc,
)
from .base import FindSamples

LAYOUTS: Mapping[str, FindSamples] = MappingProxyType(
    {
        "voc21": voc.with_background,
        "voc20": voc.without_background,
        "context60": context.with_background,
        "context59": context.without_background,
        "context459": context459.all_classes,
        "coco-object": coco_object.things,
        "coco-stuff": coco_stuff.all_classes,
        "ade20k": ade20k.scene_classes,
        "ade-full": ade_full.all_classes,
        "cityscapes": cityscapes.train_classes,
        "loveda": loveda.land_cover,
        "vaihingen": vaihingen.tiles,
        "isaid": isaid.tiles,
        "folder": folder.pictures_and_masks,
    }
)
