"""The builder of engines: an extra that the daemon never imports."""
