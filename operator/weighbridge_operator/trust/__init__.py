"""Who proves what to whom on the way between operator and Envoy: certificates, when they change, where they lie."""
