"""Exchange: features to and from the layouts of other programs."""
