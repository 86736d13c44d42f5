"""Many recipes on many devices: cells of a matrix, measured by the workers of a dask cluster."""
