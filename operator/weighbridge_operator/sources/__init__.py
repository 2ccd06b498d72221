"""Where facts come from: files, exposition text, every Envoy's statistics, names."""
