"""What an operator's graphs are made of: the list of metrics, what counts them, and their text."""
