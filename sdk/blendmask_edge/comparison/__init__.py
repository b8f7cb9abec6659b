"""Two sets of predictions of the same images, held against each other: what `blendmask compare` does."""
