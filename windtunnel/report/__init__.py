"""What people look at, made from records alone: nothing here computes a metric or needs JAX."""
