"""Long work that survives a restart; `base` is the contract, a runner is one file."""
