"""After a human corrects us: what was said, what follows from it, and whether it is better."""
