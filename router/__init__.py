"""engine-router: many models from your own machines behind one OpenAI address."""

__version__ = "0.1.0"
