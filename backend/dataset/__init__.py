"""Whole data sets, without an annotation server in between: lists of pictures in, rows out.

    listing ──> fetch, unpack ──> model ──> rows in files ──> upload, whenever you like
    (listing)      (fetching)    (painter)     (output)           (upload)

Two engines do the same with the same parts: `plain` in one process, `ray_engine` on as many
machines as there are. What is done is in the output itself, so a run may be killed at any point.
"""
