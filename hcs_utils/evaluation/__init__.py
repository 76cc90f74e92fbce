"""What the embeddings are worth: post-processing, metrics, leaks and figures."""
