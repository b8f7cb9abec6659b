"""Train a network on COCO instances."""
