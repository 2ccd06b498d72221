"""The control plane: objects and load in, Envoy configuration out."""
