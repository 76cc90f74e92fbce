"""The data wing: what a screen is, and how it gets onto this disk (never imports torch)."""
