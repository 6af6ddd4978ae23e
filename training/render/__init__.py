"""Makes pictures of faces that never were, with exact labels."""
