"""The gRPC door: decodes, asks the issuer through its port, encodes. It has no key, no database and no rules."""
