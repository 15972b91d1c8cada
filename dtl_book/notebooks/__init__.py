"""The notebooks as files: their list, their set-up cell, their clean form, and their execution."""
