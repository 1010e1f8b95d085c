"""Pictures of tasks: one source, one file; one guarded way out of the house."""
