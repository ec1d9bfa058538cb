"""The control plane: engines as processes. Kept empty: every keeper imports this package."""
