"""Whole projects: preview, pre-label, undo."""
