"""From the gateway model to Envoy, and the conversation with Envoy."""
