"""The labels of the storybook world."""

from typing import Final

STUFF: Final = ("sky", "grass", "sea", "sand", "snow", "road", "mountain")
"""Labels without a shape of their own."""

THINGS: Final = (
    "sun", "moon", "cloud", "star", "tree", "house", "car", "bus", "boat",
    "fish", "flower", "person", "bird", "balloon", "rainbow", "mushroom", "dog", "cat",
    "butterfly", "plane", "lamp", "snowman", "tent", "rocket", "umbrella", "ball", "fence",
)  # fmt: skip
"""Labels that can be counted."""

LABELS: Final = STUFF + THINGS

LABEL_IDS: Final = {label: k for k, label in enumerate(LABELS, 1)}
"""Value of a label in a label map; 0 means none."""
