"""Tables, figures and reports, made from records alone: nothing here computes a metric or needs JAX."""
