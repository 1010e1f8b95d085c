"""Hand-written stand-ins: a model that sees colours, a Label Studio that serves files."""
