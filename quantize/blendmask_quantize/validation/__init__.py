"""Compare, judge and measure a bundle before it is written."""
