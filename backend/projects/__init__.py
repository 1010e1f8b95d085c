"""Projects of a Label Studio as people look after them in a browser; no Flask in here."""
