"""Retraining: the value, what the store knows of it, the data it looks at, its rounds, its history."""
