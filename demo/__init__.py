"""Makes tiny models that speak English: real files for real engines, in a second, without torch or a download."""
