package main

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"math/big"
	"net/url"
	"strings"
	"time"
)

// p256Key is a TEST key on P-256. Its signatures are those of RFC 6979, so that they are the same in every run.
type p256Key struct{ d *big.Int }

func hexInt(text string) *big.Int {
	number, ok := new(big.Int).SetString(text, 16)
	require(ok, "a hexadecimal number")
	return number
}

// tokenKey is the key of RFC 6979 appendix A.2.5, the most public private key there is.
func tokenKey() p256Key {
	return p256Key{hexInt("C9AFA9D845BA75166B5C215767B1D6934E50C3DB36E89B127B8A622B120F6721")}
}

func otherKey() p256Key { return p256Key{new(big.Int).SetBytes(seed("another token key")[1:])} }

func order() *big.Int { return elliptic.P256().Params().N }

func (k p256Key) point() (*big.Int, *big.Int) {
	return elliptic.P256().ScalarBaseMult(k.d.FillBytes(make([]byte, 32)))
}

func (k p256Key) required() object {
	x, y := k.point()
	return object{
		"kty": "EC", "crv": "P-256",
		"x": base64url(x.FillBytes(make([]byte, 32))), "y": base64url(y.FillBytes(make([]byte, 32))),
	}
}

// thumbprint is that of RFC 7638: SHA-256 over the required members in RFC 8785 form.
func (k p256Key) thumbprint() string {
	hash := sha256.Sum256([]byte(canonical(k.required())))
	return base64url(hash[:])
}

func (k p256Key) jwk() object {
	return with(with(with(k.required(), "alg", "ES256"), "use", "sig"), "kid", k.thumbprint())
}

func jwks(keys ...object) string {
	var texts []string
	for _, key := range keys {
		texts = append(texts, canonical(key))
	}
	return `{"keys":[` + strings.Join(texts, ",") + "]}"
}

// nonce is k of RFC 6979 section 3.2, for SHA-256 and P-256, where every length is 32 bytes.
func (k p256Key) nonce(hash []byte, accept func(*big.Int) bool) {
	hmacOf := func(key []byte, parts ...[]byte) []byte {
		sum := hmac.New(sha256.New, key)
		for _, part := range parts {
			sum.Write(part)
		}
		return sum.Sum(nil)
	}
	reduced := new(big.Int).Mod(new(big.Int).SetBytes(hash), order()).FillBytes(make([]byte, 32))
	secret := k.d.FillBytes(make([]byte, 32))
	v, key := make([]byte, 32), make([]byte, 32)
	for i := range v {
		v[i] = 1
	}
	for _, mark := range []byte{0, 1} {
		key = hmacOf(key, v, []byte{mark}, secret, reduced)
		v = hmacOf(key, v)
	}
	for {
		v = hmacOf(key, v)
		candidate := new(big.Int).SetBytes(v)
		if candidate.Sign() > 0 && candidate.Cmp(order()) < 0 && accept(candidate) {
			return
		}
		key = hmacOf(key, v, []byte{0})
		v = hmacOf(key, v)
	}
}

// signRaw returns r and s as RFC 6979 gives them.
func (k p256Key) signRaw(message []byte) (r, s *big.Int) {
	hash, n := sha256.Sum256(message), order()
	k.nonce(hash[:], func(nonce *big.Int) bool {
		x, _ := elliptic.P256().ScalarBaseMult(nonce.FillBytes(make([]byte, 32)))
		r = x.Mod(x, n)
		s = new(big.Int).Mul(r, k.d)
		s.Add(s, new(big.Int).SetBytes(hash[:])).Mul(s, new(big.Int).ModInverse(nonce, n)).Mod(s, n)
		return r.Sign() > 0 && s.Sign() > 0
	})
	x, y := k.point()
	public := &ecdsa.PublicKey{Curve: elliptic.P256(), X: x, Y: y}
	require(ecdsa.Verify(public, hash[:], r, s), "a signature of its own")
	return r, s
}

// sign returns r and s, 32 bytes each, of the two forms of a signature the one whose s is low, or the other one.
func (k p256Key) sign(message []byte, low bool) []byte {
	r, s := k.signRaw(message)
	if half := new(big.Int).Rsh(order(), 1); (s.Cmp(half) <= 0) != low {
		s.Sub(order(), s)
	}
	return append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...)
}

// checkSignature holds signing against RFC 6979 appendix A.2.5, message "sample", SHA-256.
func checkSignature() {
	r, s := tokenKey().signRaw([]byte("sample"))
	require(r.Cmp(hexInt("EFD48B2AACB6A8FD1140DD9CD45E81D69D2C877B56AAF991C34D0EA84EAF3716")) == 0, "r of RFC 6979")
	require(s.Cmp(hexInt("F7CB1C942D657C41D436C7A1B6E29F65F3E900DBB9AFF4064DC4AB2F843ACDA8")) == 0, "s of RFC 6979")
}

// leafCertificate is a certificate with the agent's SPIFFE ID, signed by an Ed25519 key, hence always the same.
func leafCertificate() []byte {
	x, y := otherKey().point()
	authority := ed25519.NewKeyFromSeed(seed("certificate authority"))
	template := &x509.Certificate{
		SerialNumber: big.NewInt(42),
		Subject:      pkix.Name{Country: []string{"US"}, Organization: []string{"SPIRE"}},
		NotBefore:    time.Date(2026, 11, 21, 11, 0, 0, 0, time.UTC),
		NotAfter:     time.Date(2026, 11, 21, 13, 0, 0, 0, time.UTC),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		URIs:         []*url.URL{must(url.Parse(agent))},
	}
	public := &ecdsa.PublicKey{Curve: elliptic.P256(), X: x, Y: y}
	return must(x509.CreateCertificate(nil, template, template, public, authority))
}

// leafThumbprint is x5t#S256 (RFC 8705 section 3.1): SHA-256 over the certificate's DER.
func leafThumbprint() string {
	hash := sha256.Sum256(leafCertificate())
	return base64url(hash[:])
}

func keyVectors() pairs {
	key, other := tokenKey(), otherKey()
	hash := sha256.Sum256(leafCertificate())
	// The broker writes its keys in the order of their kids.
	require(key.thumbprint() != other.thumbprint(), "two keys")
	both := jwks(key.jwk(), other.jwk())
	if other.thumbprint() < key.thumbprint() {
		both = jwks(other.jwk(), key.jwk())
	}
	foreign := object{"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig", "kid": "a", "x": base64url(seed("x"))}
	content := issuer + "\n" + both + "\n" + checkpointKey().verifier()
	show := func(name string, key p256Key) pairs {
		return pairs{
			"id", name, "test_private", hex.EncodeToString(key.d.FillBytes(make([]byte, 32))),
			"jwk", canonical(key.jwk()), "kid", key.thumbprint(),
		}
	}
	return pairs{
		"format", "docs/formats/credential.md",
		"keys", []pairs{show("rfc6979-a.2.5", key), show("another", other)},
		"certificates", []pairs{{
			"id", "leaf",
			"pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: leafCertificate()})),
			"sha_256", hex.EncodeToString(hash[:]), "x5t#S256", leafThumbprint(),
		}},
		"key_set", pairs{
			"issuer", issuer, "jwks", both, "checkpoint_key", checkpointKey().verifier(), "digested", content,
			"digest", digest([]byte(content)),
		},
		"accepted", []pairs{
			{"id", "none", "jwks", jwks(), "kids", []string{}},
			{"id", "one", "jwks", jwks(key.jwk()), "kids", []string{key.thumbprint()}},
			{"id", "two", "jwks", both, "kids", []string{key.thumbprint(), other.thumbprint()}},
			{"id", "another-algorithm-passed-over", "jwks", jwks(foreign, key.jwk()), "kids", []string{key.thumbprint()}},
			{"id", "further-member", "jwks", jwks(with(key.jwk(), "key_ops", list{"verify"})), "kids", []string{key.thumbprint()}},
		},
		"refused", refusedKeySets(key.jwk()),
	}
}

func refusedKeySets(key object) []pairs {
	const reason = "KEY_SET_INVALID"
	x := key["x"].(string)
	rows := [][2]string{
		{"empty", ""}, {"not-json", "keys"}, {"array", "[]"}, {"no-keys", "{}"}, {"keys-an-object", `{"keys":{}}`},
		{"name-twice", `{"keys":[],"keys":[]}`}, {"key-a-text", `{"keys":["a"]}`},
		{"key-twice", jwks(key, key)},
		{"private", jwks(with(key, "d", base64url(tokenKey().d.Bytes())))},
		{"symmetric", jwks(object{"kty": "oct", "alg": "HS256", "k": "c2VjcmV0"})},
		{"kid-of-another", jwks(with(key, "kid", otherKey().thumbprint()))},
		{"no-kid", jwks(without(key, "kid"))},
		{"another-curve", jwks(with(key, "crv", "P-384"))},
		{"for-encryption", jwks(with(key, "use", "enc"))},
		{"off-the-curve", jwks(with(key, "x", key["y"]))},
		{"coordinate-padded", jwks(with(key, "x", x+"="))},
		{"coordinate-cut", jwks(with(key, "x", x[:42]))},
	}
	var vectors []pairs
	for _, row := range rows {
		vectors = append(vectors, pairs{"id", row[0], "jwks", row[1], "reason", reason})
	}
	return vectors
}
