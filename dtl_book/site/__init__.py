"""The notebooks as a site that needs no network."""
