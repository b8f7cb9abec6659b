"""Pages that people look at: reports of bundles and runs, comparisons, and the trend of a history."""
