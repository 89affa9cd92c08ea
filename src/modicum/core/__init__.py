"""The words everything else speaks; see README.md."""
