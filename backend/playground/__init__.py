"""Words and pictures tried out by hand: what the page `/ui` shows."""
