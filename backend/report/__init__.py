"""What pre-labelling saves: predictions held against what people made of them."""
