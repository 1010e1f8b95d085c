"""One benchmark layout = one file; the table lists them."""
