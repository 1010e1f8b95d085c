"""Label Studio's API for long runs: patient, exact, a page at a time."""
