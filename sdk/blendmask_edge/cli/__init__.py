"""Commands that need no torch, one module each."""
