"""Studies behind published numbers, and benchmark suites of single stages."""
