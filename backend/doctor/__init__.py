"""What an administrator asks when something does not work: checks in order, each with a remedy."""
