"""Through a real Label Studio and a real browser."""
