"""One module a screen: each turns a screen's own files and tables into a manifest."""
