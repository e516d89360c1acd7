"""One file a resource; TABLE in `api/routes/table.py` says which there are."""
