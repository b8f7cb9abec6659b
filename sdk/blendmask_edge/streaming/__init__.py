"""Frames of a source through stages that overlap: one thread per stage, bounded queues between them."""
