"""Two sets of predictions of the same images, compared with each other: what `blendmask compare` does."""
