"""The memory explorer: will it fit, and what would save the most?"""
