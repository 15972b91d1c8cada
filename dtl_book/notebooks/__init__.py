"""The notebooks as files: their list, their set-up cell, and executing them."""
