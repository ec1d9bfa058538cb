"""Models' files, brought into the caches that the engines read, before any engine starts."""
