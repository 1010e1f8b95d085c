"""Stand-in for the 2.x backend SDK of Label Studio; see the README beside it."""
