"""Commands that need the workstation install."""
