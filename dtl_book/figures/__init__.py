"""Pictures of the notebooks."""
