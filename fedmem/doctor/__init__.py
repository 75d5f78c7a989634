"""The doctor: what people check by hand before and after a run, a line each."""
