"""What the notebooks and the command line need beside ``dtl_core``: data, experiments, claims, tables, pictures, pages."""
