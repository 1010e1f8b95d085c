"""The demonstration: our backend and a real Label Studio, from scenes to a report."""
