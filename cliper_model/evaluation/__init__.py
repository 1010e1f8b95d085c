"""Measuring a method: whole-set confusion, boundaries, presence; one run, resumable."""
