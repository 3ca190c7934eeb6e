package main

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffegrpc/grpccredentials"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/spiffetls/tlsconfig"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	"github.com/spiffe/go-spiffe/v2/workloadapi"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
)

// An exchange can be asked again when its reply was lost, because it carries a request id; what changes something
// without one is not.
const retries = `{"methodConfig": [{
	"name": [
		{"service": "broker.v1.ExchangeService", "method": "Exchange"},
		{"service": "broker.v1.KeyService", "method": "GetKeySet"},
		{"service": "broker.v1.AuditService", "method": "GetCheckpoint"}
	],
	"retryPolicy": {
		"maxAttempts": 4, "initialBackoff": "0.1s", "maxBackoff": "1s", "backoffMultiplier": 2,
		"retryableStatusCodes": ["UNAVAILABLE"]
	}
}]}`

// Without these an outage of two minutes lasts up to four for a client: gRPC's own pauses grow to two minutes.
var reconnecting = grpc.ConnectParams{
	Backoff:           backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 2, Jitter: 0.2, MaxDelay: 5 * time.Second},
	MinConnectTimeout: 10 * time.Second,
}

// An endpoint is a server: who it has to be, and where to look for it.
type endpoint struct {
	id      spiffeid.ID
	address string
}

// A client is one workload: its SVIDs, the broker it trusts, and what it holds.
type client struct {
	source  *workloadapi.X509Source
	broker  endpoint
	current *generation
	held    map[string]*credential // by credential id
}

// A generation is one SVID and every connection made with it. A credential is bound to the leaf that asked for it, so
// it is only ever sent over its own generation, also when the next SVID has come.
type generation struct {
	svid        *x509svid.SVID
	source      *workloadapi.X509Source
	connections map[endpoint]*grpc.ClientConn
}

// generation returns the one of the SVID that is current. Those before stay open for the credentials bound to them; a
// program that runs for long closes each when its SVID is over.
func (c *client) generation() (*generation, error) {
	svid, err := c.source.GetX509SVID()
	if err != nil {
		return nil, fmt.Errorf("no SVID: %w", err)
	}
	if c.current == nil || !c.current.svid.Certificates[0].Equal(svid.Certificates[0]) {
		c.current = &generation{svid: svid, source: c.source, connections: map[endpoint]*grpc.ClientConn{}}
	}
	return c.current, nil
}

// toBroker returns the connection to the broker in the current generation.
func (c *client) toBroker() (*grpc.ClientConn, error) {
	current, err := c.generation()
	if err != nil {
		return nil, err
	}
	return current.to(c.broker)
}

// to returns the connection to a server; nobody but the workload of its SPIFFE ID can answer there.
func (g *generation) to(server endpoint) (*grpc.ClientConn, error) {
	if connection, ok := g.connections[server]; ok {
		return connection, nil
	}
	credentials := grpccredentials.MTLSClientCredentials(g.svid, g.source, tlsconfig.AuthorizeID(server.id))
	connection, err := grpc.NewClient(server.address,
		grpc.WithTransportCredentials(credentials),
		grpc.WithDefaultServiceConfig(retries),
		grpc.WithConnectParams(reconnecting),
	)
	if err == nil {
		g.connections[server] = connection
	}
	return connection, err
}

// thumbprint returns what a credential of this generation names in `cnf`.
func (g *generation) thumbprint() string {
	digest := sha256.Sum256(g.svid.Certificates[0].Raw)
	return base64.RawURLEncoding.EncodeToString(digest[:])
}

// A credential is a token and the generation that it is bound to. As credentials of a call it is sent with that call
// and never without TLS.
type credential struct {
	token      token
	generation *generation
	audience   spiffeid.ID
}

// GetRequestMetadata gives the header that a validator reads.
func (c *credential) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Bearer " + c.token()}, nil
}

// RequireTransportSecurity says that a token is a secret.
func (*credential) RequireTransportSecurity() bool { return true }

// A token is inside a function, so that whatever holds it, formatted or encoded, shows an address at most. A type with a
// String method would not do: fmt does not call it for what stands in unexported fields. The generated messages do
// print: never format a broker.v1.Credential or ExchangeResponse.
type token func() string

func secret(text string) token { return func() string { return text } }
