"""Trains the networks that edgeface ships, from rendered faces: see README.md in this folder."""
