"""Compare, check and measure a bundle before it is written."""
