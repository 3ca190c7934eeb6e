"""Mutants of who asks: certificates, names, connections, keys on disk."""

from typing import Final

from tests.mutants.mutant import Mutant, mutant

_AUTHENTICATE: Final = "svid/authenticate.py"
_LEAF: Final = "svid/leaf.py"
_SVIDS: Final = "unit/svid/test_authenticate.py"

IDENTITY: Final[tuple[Mutant, ...]] = (
    mutant(
        "any-authority",
        "an SVID is verified against the bundle of its own trust domain only",
        _AUTHENTICATE,
        "authorities = bundles.authorities.get(svid.spiffe_id.trust_domain)",
        "authorities = [each for own in bundles.authorities.values() for each in own]",
        f"{_SVIDS}::test_refuses",
    ),
    mutant(
        "no-end-of-svid",
        "an SVID that has ended is refused, on an old connection and a resumed session too",
        _AUTHENTICATE,
        "if now >= svid.not_after:",
        "if False:",
        f"{_SVIDS}::test_f2_an_end_that_comes_later_counts",
    ),
    mutant(
        "resumed-session",
        "the end of an SVID counts on a session that TLS resumed",
        _AUTHENTICATE,
        "_check_time(svid, now)\n",
        "pass\n",
        "link/test_credentials.py::test_f2_an_svid_that_ends_counts_on_a_resumed_session",
    ),
    mutant(
        "path-remembered-for-ever",
        "a verified path is looked at again when the bundles change",
        _AUTHENTICATE,
        "_PathKey(leaf=leaf, chain=chain, epoch=bundles.epoch)",
        "_PathKey(leaf=leaf, chain=chain, epoch=0)",
        f"{_SVIDS}::test_f2_a_removed_authority_counts_at_the_next_epoch",
    ),
    mutant(
        "no-path",
        "the path from the leaf to an authority is verified",
        _AUTHENTICATE,
        "        verified = policy.build_client_verifier().verify(svid.leaf, list(svid.intermediates))\n",
        "        return svid.not_after\n",
        f"{_SVIDS}::test_refuses",
    ),
    mutant(
        "old-tls",
        "TLS 1.3 only",
        _AUTHENTICATE,
        "if evidence.tls_version != TLS_VERSION:",
        "if False:",
        f"{_SVIDS}::test_refuses_other_versions_of_tls",
    ),
    mutant(
        "broker-calls-itself",
        "nobody comes with the broker's own ID",
        _AUTHENTICATE,
        "if principal.spiffe_id == self._own_id:",
        "if False:",
        f"{_SVIDS}::test_refuses",
    ),
    mutant(
        "leaf-may-sign",
        "a leaf that may sign certificates is no workload's",
        _LEAF,
        "if usage.key_cert_sign or usage.crl_sign:",
        "if False:",
        f"{_SVIDS}::test_refuses",
    ),
    mutant(
        "leaf-is-authority",
        "a leaf that is an authority is no workload's",
        _LEAF,
        "if extensions.get_extension_for_class(x509.BasicConstraints).value.ca:",
        "if False:",
        f"{_SVIDS}::test_refuses",
    ),
    mutant(
        "two-names",
        "exactly one URI SAN",
        _LEAF,
        "if len(uris) != 1:",
        "if not uris:",
        f"{_SVIDS}::test_refuses",
    ),
    mutant(
        "spires-own-names",
        "IDs under /spire are not workloads",
        _LEAF,
        'if spiffe_id.path == _RESERVED_PATH or spiffe_id.path.startswith(_RESERVED_PATH + "/"):',
        "if False:",
        f"{_SVIDS}::test_refuses",
    ),
    mutant(
        "big-keys",
        "a stranger's key is bounded before anything is computed with it",
        _LEAF,
        "    for certificate in presented:\n        _check_key(certificate)\n",
        "",
        f"{_SVIDS}::test_refuses",
    ),
    mutant(
        "dot-segments",
        "a SPIFFE ID has no relative path segments",
        "svid/spiffe_id.py",
        "if segment in _DOT_SEGMENTS:",
        "if False:",
        "unit/svid/test_spiffe_id.py::test_refuses",
    ),
    mutant(
        "any-server",
        "a client speaks to the server of the SPIFFE ID that it wants, and to no other",
        "link/handshake.py",
        "if svid.spiffe_id != server_id:",
        "if False:",
        "link/test_tunnel.py::test_a_server_with_another_id_is_refused_and_the_error_says_which",
    ),
    mutant(
        "open-key-files",
        "a signing key that others may read is not used",
        "credential/source.py",
        "        _require_private(path, status, 0o600)\n",
        "",
        "unit/credential/test_source.py::test_an_unsafe_key_is_not_used",
    ),
    mutant(
        "unauthenticated-health",
        "health on the agents' port answers authenticated callers only",
        "server/health.py",
        "        await self._admit(call)\n        if request.service",
        "        if request.service",
        "server/test_health_and_admin.py::test_health_answers_whom_it_knows",
    ),
)
