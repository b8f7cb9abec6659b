"""What long commands share: the folder of an unfinished run, and how progress is announced."""
