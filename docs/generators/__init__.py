"""What writes pages of the manual from the code; `docs/generate.py` runs it."""
