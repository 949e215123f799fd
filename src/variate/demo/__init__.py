"""The main job: what `variate demo` shows on real data."""
