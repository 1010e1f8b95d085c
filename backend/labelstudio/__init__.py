"""Label Studio's dialect as pure functions over dicts: no Flask, no torch."""
