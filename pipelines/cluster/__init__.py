"""Workers in other processes and on other machines. All that imports dask to extract."""
