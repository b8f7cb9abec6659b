"""Commands of the workstation."""
