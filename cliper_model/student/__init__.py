"""MaskCLIP+: a teacher's pseudo labels train a student network (docs/specs/maskclip.md §6)."""
