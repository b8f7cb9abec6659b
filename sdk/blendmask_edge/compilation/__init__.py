"""Compile a bundle for the GPU of this machine: `compiler.compile`."""
