"""The networks: what they are made of, and what comes out."""
