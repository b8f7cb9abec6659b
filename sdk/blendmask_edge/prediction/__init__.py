"""The stages of a prediction, the choice of its instances, and the tiles of a large image."""
