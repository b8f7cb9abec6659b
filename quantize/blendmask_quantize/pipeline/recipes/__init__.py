"""The stages of each recipe of the table in `recipe.py`: one module each, with `run(job)`."""
