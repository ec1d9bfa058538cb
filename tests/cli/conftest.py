from running import make, up

__all__ = ["make", "up"]
