"""Do work on many items in this process, in several, or on a Ray cluster, with results kept on disk in shards."""
