"""Scenarios: generated scenes with known truth, in the place of a camera and a detector; no pictures, no backend."""
