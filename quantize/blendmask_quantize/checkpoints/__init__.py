"""Read and write checkpoints, in AdelaiDet's names."""
