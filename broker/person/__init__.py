"""Who stands behind a call: a person, by the word of an OpenID Connect issuer."""
