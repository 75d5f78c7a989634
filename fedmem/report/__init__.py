"""Any set of runs as a table and a page of plots: `python -m fedmem.report RUNS…`."""
