"""One study per published table: `python -m bench.studies.NAME` writes `bench/results/NAME.json`."""
