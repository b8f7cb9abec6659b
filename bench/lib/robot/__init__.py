"""Parts of the study `robot`, each of which returns rows."""
