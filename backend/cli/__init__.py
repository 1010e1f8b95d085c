"""One subcommand per file, each with `HELP`, `configure(parser)` and `run(args) -> int`."""
