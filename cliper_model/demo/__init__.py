"""The demo weights: how their pictures are drawn, how they are trained and measured."""
